"""Reads a GGUF: its hyperparameters become a `ModelInfo`, its tensors the model's weights."""

from __future__ import annotations

from phiplug.errors import ModelCorrupt, ModelUnsupported
from phiplug.gguf import Header, read_header
from phiplug.plugins.templates.model import ExampleModel
from phiplug.plugins.templates.options import context_length, refuse_what_is_not_honoured
from phiplug.spi import LoadOptions, ModelFiles, ModelInfo

ARCHITECTURES = ("llama",)  # the values of general.architecture that `ExampleModel.compute` knows
VERSION = "0.1.0"


def load(files: ModelFiles, options: LoadOptions) -> ExampleModel:
    """Load a GGUF file, or the first one of a split.

    Raises:
        ModelNotFound, ModelCorrupt, ModelUnsupported: the file is missing, damaged, or of a kind that is not read here.
        UnsupportedParameter: an option asks for what is not honoured.
    """
    refuse_what_is_not_honoured(options)
    header = read_header(files.path)
    if header.architecture not in ARCHITECTURES:
        raise ModelUnsupported(
            f"{files.path.name} is of the architecture {header.architecture}", hint="use -b llama-cpp"
        )
    info = ModelInfo(
        vocab_size=_vocab_size(header),
        context_length=context_length(options, header.hyperparameter("context_length")),
        slots=options.slots,
        device="cpu",
        quantization=header.quantization,
        version=VERSION,
    )
    # `map_tensor(header.tensors[name])` gives a tensor's bytes as they are in the file, packed as its `type` says.
    return ExampleModel(header.tensors, info)


def _vocab_size(header: Header) -> int:
    """Return how many rows the embeddings have: the width of the logits, which may be more than the tokenizer's."""
    embeddings = header.tensors.get("token_embd.weight")
    if embeddings is None:
        raise ModelCorrupt(f"{header.path.name} lacks token_embd.weight", hint="download it again")
    return embeddings.shape[0]
