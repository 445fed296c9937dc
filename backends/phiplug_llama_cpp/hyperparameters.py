"""Refuses header values at which llama.cpp asserts, which would end the process. It reads headers alone, and no engine.

The rules are those of `llama-model.cpp` and of the graphs in `models/`, as of llama-cpp-python 0.3.36. Shapes are not
looked at, nor most types: llama.cpp reports those by itself. Values that no rule here knows are found by `trial`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import cycle

from phiplug.errors import ModelCorrupt, ModelUnsupported
from phiplug.gguf import Header

MAX_EXPERTS = 1024  # LLAMA_MAX_EXPERTS

_SCALINGS = ("none", "linear", "yarn", "longrope")  # LLAMA_ROPE_SCALING_TYPES

_EQUAL_HEADS = frozenset({"command-r", "cohere2", "glm4", "gptneox", "mpt", "phi2", "phi3", "qwen", "stablelm"})
"""Architectures whose keys and values must have heads of one size."""

_WHOLE_ROTATION = frozenset(
    {
        "apertus", "arcee", "baichuan", "dbrx", "deepseek", "dots1", "ernie4_5", "exaone", "exaone4", "falcon",
        "granite", "internlm2", "llama", "llama4", "minimax-m2", "mistral3", "nemotron", "olmo", "olmo2", "olmoe",
        "orion", "qwen2", "qwen2moe", "qwen2vl", "qwen3", "qwen3moe", "qwen3vl", "seed_oss", "smollm3", "starcoder2",
        "xverse",
    }
)  # fmt: skip
"""Architectures that rotate whole heads, whose keys and values are of one size."""

_UNCOMPUTED = frozenset({"I8", "I16", "I32", "I64", "F64"})
_ROTATING = _WHOLE_ROTATION | {"gemma", "gemma2", "gemma3", "phi3"}


def check_hyperparameters(header: Header) -> None:
    """Hold a header to the rules.

    Raises:
        ModelCorrupt: a value, or two together, that llama.cpp would not survive.
        ModelUnsupported: a way to scale rotary positions that it does not know.
    """
    scaling = header.hyperparameter("rope.scaling.type")
    if isinstance(scaling, str) and scaling not in _SCALINGS:
        raise ModelUnsupported(
            f"{header.path.name}: {header.architecture}.rope.scaling.type is {scaling[:40]!r}, and llama.cpp knows "
            f"{', '.join(_SCALINGS)}"
        )
    values = _Values(header)
    for rule in _RULES:
        for complaint in rule(values):
            raise ModelCorrupt(f"{header.path.name} is damaged: {complaint}")


class _Values:
    """The integers of a header, by their names without the architecture's."""

    def __init__(self, header: Header) -> None:
        self.header = header
        self.architecture = header.architecture

    def one(self, name: str, default: int = 0) -> int:
        """Return a number, or `default` where there is none or the file has something else."""
        value = self.header.hyperparameter(name)
        return value if isinstance(value, int) else default

    def each(self, name: str) -> tuple[int, ...]:
        """Return the numbers of all layers, of which a file may give one for all."""
        value = self.header.hyperparameter(name)
        several = value if isinstance(value, tuple) else (value,)
        return tuple(number for number in several if isinstance(number, int))

    def head(self, name: str) -> int:
        """Return the size of a head of keys or values; a file that does not say divides its embedding."""
        heads = max(self.each("attention.head_count"), default=0)
        return self.one(name, self.one("embedding_length") // max(heads, 1))


def _experts(values: _Values) -> Iterator[str]:
    count, used = values.one("expert_count"), max(values.each("expert_used_count"), default=0)
    groups, groups_used = values.one("expert_group_count"), values.one("expert_group_used_count")
    if count > MAX_EXPERTS:
        yield f"expert_count is {count}, and llama.cpp takes {MAX_EXPERTS}"
    if used > count or (count and not used):
        yield f"{used} of {count} experts are used"
    if groups and groups >= count:
        yield f"{count} experts are in {groups} groups"
    if groups > 1 and (count % groups or not 0 < groups_used < groups):
        yield f"{count} experts are in {groups} groups, of which {groups_used} are used"


def _extra_layers(values: _Values) -> Iterator[str]:
    extra, layers = values.one("nextn_predict_layers"), values.one("block_count")
    if extra > layers:
        yield f"nextn_predict_layers is {extra}, of {layers} layers"


def _heads(values: _Values) -> Iterator[str]:
    heads, groups = values.each("attention.head_count"), values.each("attention.head_count_kv")
    if heads and not any(heads) and values.architecture in _ROTATING:
        yield "attention.head_count is 0"
    if not heads or not groups:
        return
    pairs = zip(cycle(heads), groups, strict=False) if len(heads) == 1 else zip(heads, cycle(groups), strict=False)
    for queries, keys in pairs:
        if keys and queries % keys:
            yield f"{queries} heads of attention share {keys} heads of keys"
    key, value = values.head("attention.key_length"), values.head("attention.value_length")
    if values.architecture in _EQUAL_HEADS | _WHOLE_ROTATION and key != value:
        yield f"a head has {key} numbers of keys and {value} of values"


def _rotation(values: _Values) -> Iterator[str]:
    head = values.head("attention.key_length")
    rotated = values.one("rope.dimension_count", head)
    if rotated % 2 or rotated > head or (rotated == 0 and values.architecture in _ROTATING):
        yield f"{rotated} of the {head} numbers of a head are rotated"
    if values.architecture in _WHOLE_ROTATION and rotated != head:
        yield f"{rotated} of the {head} numbers of a head are rotated, and {values.architecture} rotates all"


def _fused_heads(values: _Values) -> Iterator[str]:
    """Phi-3 has queries, keys and values in one matrix, which llama.cpp cuts without a look at its size."""
    fused, out = (values.header.tensors.get(f"blk.0.{name}.weight") for name in ("attn_qkv", "attn_output"))
    if values.architecture != "phi3" or fused is None or out is None:
        return
    head = values.head("attention.key_length")
    heads, groups = (max(values.each(f"attention.{name}"), default=0) for name in ("head_count", "head_count_kv"))
    groups = groups or heads
    if fused.shape[0] != (heads + 2 * groups) * head or out.shape[-1] != heads * head:
        yield f"attention.head_count is {heads}, which its matrices do not have"


def _types(values: _Values) -> Iterator[str]:
    """Weights of such types have no product in ggml, which then calls a function that is not there."""
    for tensor in values.header.tensors.values():
        if values.architecture in _ROTATING and tensor.type in _UNCOMPUTED:
            yield f"{tensor.name} is {tensor.type}, which no weights are"


def _window(values: _Values) -> Iterator[str]:
    if values.architecture == "gemma3" and values.one("attention.sliding_window_pattern") == 1:
        yield "attention.sliding_window_pattern is 1, so that no layer has a window"


_RULES: tuple[Callable[[_Values], Iterator[str]], ...] = (
    _experts, _extra_layers, _heads, _rotation, _fused_heads, _types, _window,
)  # fmt: skip
