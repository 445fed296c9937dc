"""Which load options this backend honours. What it cannot do is refused by name, never passed over."""

from __future__ import annotations

from phiplug.errors import UnsupportedParameter
from phiplug.spi import LoadOptions

DEFAULT_CONTEXT = 4096  # tokens of a slot, where the model was trained for as many


def refuse_what_is_not_honoured(options: LoadOptions) -> None:
    """Raise UnsupportedParameter for a device, threads or GPU layers; take an option out once you honour it."""
    possible = {"device": (None, "cpu"), "threads": (None,), "gpu_layers": (None, 0)}
    for name, values in possible.items():
        if (value := getattr(options, name)) not in values:
            raise UnsupportedParameter(name, f"the example backend cannot do {value}", hint="leave it out")


def context_length(options: LoadOptions, trained: int) -> int:
    """Return how many tokens a slot holds: what was asked for, at most what the model was trained for.

    Raises:
        UnsupportedParameter: more was asked for.
    """
    if options.ctx_size is not None and options.ctx_size > trained:
        raise UnsupportedParameter("ctx_size", f"{options.ctx_size} is more than the model's {trained}")
    return options.ctx_size or min(trained, DEFAULT_CONTEXT)
