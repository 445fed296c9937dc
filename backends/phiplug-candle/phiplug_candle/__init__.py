"""Candle, Hugging Face's engine in Rust, as a backend for phiplug: GGUF files of four families of models.

This file is imported to list the backends, so it does not load the extension. Read on in `model` (the contract),
`weights` (where a GGUF keeps the parts of a model), `rotary` and `memory`. What is computed is in Rust,
`src/transformer.rs`.
"""

from __future__ import annotations

from phiplug.spi import Backend, LoadOptions, Model, ModelFiles, Probe, hookimpl

CANDLE = "0.11.1"  # as Cargo.toml has it
INSTALL = "pip install ./backends/phiplug-candle"


def probe() -> Probe:
    """Look whether the extension was built and can be loaded, which takes milliseconds."""
    try:
        from phiplug_candle import _native
    except ImportError as error:
        return Probe(False, reason=f"its extension does not load: {error}", install=f"{INSTALL}  # needs Rust")
    about = _native.about()
    devices = tuple(name for name in ("cuda", "metal") if about[name])
    return Probe(True, devices=(*devices, "cpu"), versions={"candle": CANDLE})


def accepts(files: ModelFiles) -> bool:
    """Look whether these files are of the kind that `load` reads."""
    return files.format == "gguf"


def load(files: ModelFiles, options: LoadOptions) -> Model:
    """Load the model; see `model.load`."""
    from phiplug_candle import model

    return model.load(files, options)


@hookimpl
def phiplug_register_backends() -> list[Backend]:
    """Bring the one backend."""
    return [
        Backend(
            api=2,
            name="candle",
            summary="Hugging Face's Candle, in Rust: Llama, Phi-3, Qwen2 and Qwen3",
            probe=probe,
            accepts=accepts,
            load=load,
            default_model="smollm2",
        )
    ]
