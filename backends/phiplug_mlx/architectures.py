"""What a GGUF calls things, and what mlx-lm calls them: one entry for each family of models.

This is data. A family whose layers mlx-lm and llama.cpp compute alike needs nothing but an entry here: the module of
`mlx_lm.models`, the names of its tensors, and where the values of its config come from. Names: constants.py and
tensor_mapping.py of gguf-py. It knows nothing of files or arrays.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

ATTENTION = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
}
HEAD_NORMS = {"attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm"}
FEED_FORWARD = {
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
GEMMA_NORMS = {
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}
OUTSIDE = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
"""Tensors that belong to no layer. Where `output` is missing, the embeddings serve as the output matrix."""

CONFIG = {
    "hidden_size": "embedding_length",
    "num_hidden_layers": "block_count",
    "intermediate_size": "feed_forward_length",
    "num_attention_heads": "attention.head_count",
    "rms_norm_eps": "attention.layer_norm_rms_epsilon",
}
"""mlx-lm's config key -> the GGUF key behind the architecture's name, for every family; all must be there."""


@dataclass(frozen=True, slots=True)
class Architecture:
    """How to turn a GGUF of one family into a model of mlx-lm.

    Attributes:
        module: of `mlx_lm.models`.
        layer: what a GGUF calls a tensor within `blk.N.` -> its place within `model.layers.N.`.
        optional: mlx-lm's config key -> (GGUF key, value where it is missing).
        permuted: tensors whose rows convert_hf_to_gguf.py put in the order that interleaved rotation needs.
        norm_offset: what the file's norm weights are above mlx-lm's: Gemma's are stored with 1 added.
        window_period: of so many layers the last sees everything and the others a sliding window; 0: all see all.
        window: of those layers, where the file does not say.
        masks_are_arrays: the attention class takes no symbolic mask.
        flat_scale_layers: models of this many layers scale attention by hidden_size / heads, not by the head's size.
        biases: whether the query, key and value matrices may have one, as a config key of mlx-lm; "" where they must.
    """

    module: str
    layer: Mapping[str, str]
    optional: Mapping[str, tuple[str, float]] = field(default_factory=dict)
    permuted: frozenset[str] = frozenset()
    norm_offset: float = 0.0
    window_period: int = 0
    window: int = 0
    masks_are_arrays: bool = False
    flat_scale_layers: int = 0
    biases: str = ""


ARCHITECTURES: Mapping[str, Architecture] = {
    "llama": Architecture(  # Llama 1 to 3, Mistral, SmolLM2
        module="llama",
        layer={**ATTENTION, **FEED_FORWARD},
        permuted=frozenset({"attn_q", "attn_k"}),
        biases="attention_bias",
    ),
    "phi3": Architecture(  # query, key and value are one matrix, gate and up are another: mlx-lm has them so, too
        module="phi3",
        layer={
            "attn_norm": "input_layernorm",
            "attn_qkv": "self_attn.qkv_proj",
            "attn_output": "self_attn.o_proj",
            "ffn_norm": "post_attention_layernorm",
            "ffn_up": "mlp.gate_up_proj",
            "ffn_down": "mlp.down_proj",
        },
    ),
    "qwen2": Architecture(module="qwen2", layer={**ATTENTION, **FEED_FORWARD}),
    "qwen3": Architecture(module="qwen3", layer={**ATTENTION, **HEAD_NORMS, **FEED_FORWARD}),
    "gemma2": Architecture(
        module="gemma2",
        layer={**ATTENTION, **FEED_FORWARD, **GEMMA_NORMS},
        optional={
            "attn_logit_softcapping": ("attn_logit_softcapping", 50.0),
            "final_logit_softcapping": ("final_logit_softcapping", 30.0),
        },
        norm_offset=1.0,
        window_period=2,
        window=4096,
        masks_are_arrays=True,
        flat_scale_layers=46,
    ),
    "gemma3": Architecture(
        module="gemma3_text",
        layer={**ATTENTION, **HEAD_NORMS, **FEED_FORWARD, **GEMMA_NORMS},
        optional={"rope_local_base_freq": ("rope.freq_base_swa", 10_000.0)},
        norm_offset=1.0,
        window_period=6,
        flat_scale_layers=62,
    ),
}
