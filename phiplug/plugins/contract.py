"""Holds what a plugin gives to the contract: each wrong value becomes an error that names the plugin.

It knows the contract and nothing of entry points, hooks or processes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, get_args

from phiplug.errors import ContractMismatch, PluginError
from phiplug.spi import API_VERSION, OLDEST_API, Backend, Feature, ModelFiles, ModelInfo, Probe, RowIndependence
from phiplug.types import ToolFormat

if TYPE_CHECKING:
    from phiplug.spi import Model

ACCEPTED = f"version {API_VERSION}" if OLDEST_API == API_VERSION else f"versions {OLDEST_API} to {API_VERSION}"
WHERE = "docs/plugins.md, under Versions, says what changed"
FEATURE_METHODS: Mapping[Feature, tuple[str, ...]] = {
    "copy": ("copy",),
    "autotune": ("autotune", "forget"),
    "meter": ("peak_memory",),
    "guess": ("guess",),
}
_CONSTRUCTORS = ("Backend.__init__()", "ModelInfo.__init__()")
_COUNTS = ("vocab_size", "context_length", "slots", "chunk", "equal_passes")
T = TypeVar("T")


def named_backend(owner: str, name: str, answer: object) -> Backend:
    """Return the one backend of `name` among what a plugin's hook returned, if its version is accepted.

    Raises:
        ContractMismatch: there is no such backend, a field of it is wrong, or it was written for another version.
    """
    listed = answer if isinstance(answer, list | tuple) else []
    named = [backend for backend in listed if isinstance(backend, Backend) and backend.name == name]
    if len(named) != 1:
        raise ContractMismatch(f"{owner} registers no list with one backend {name!r}")
    backend = named[0]
    if type(backend.api) is not int or not OLDEST_API <= backend.api <= API_VERSION:
        raise _other_version(owner, f"version {backend.api!r}")
    _expect(f"{owner}: Backend.summary", backend.summary, isinstance(backend.summary, str), "a text")
    _expect(f"{owner}: Backend.default_model", backend.default_model, _text_or_none(backend.default_model), "a text")
    for verb in ("probe", "accepts", "load"):
        _expect(f"{owner}: Backend.{verb}", getattr(backend, verb), callable(getattr(backend, verb)), "a function")
    return backend


def misfit(owner: str, error: BaseException) -> PluginError | None:
    """Return the error to raise where a plugin built a `Backend` or a `ModelInfo` of another version, else None."""
    if not isinstance(error, TypeError) or not str(error).startswith(_CONSTRUCTORS):
        return None
    return _other_version(owner, "version 1 or another version", because=f": {error}")


def checked_probe(owner: str, probe: object) -> Probe:
    """Return what a probe returned, if each field is of its type."""
    if not isinstance(probe, Probe):
        raise _wrong(f"{owner}: probe() returned", probe, "a Probe")
    devices, texts = probe.devices, (probe.reason, probe.install)
    _expect(f"{owner}: Probe.available", probe.available, isinstance(probe.available, bool), "True or False")
    _expect(f"{owner}: Probe.reason and install", texts, _all_texts(texts), "texts")
    _expect(f"{owner}: Probe.devices", devices, isinstance(devices, tuple) and _all_texts(devices), "a tuple of texts")
    _expect(f"{owner}: Probe.versions", probe.versions, _maps_texts(probe.versions), "a mapping of texts")
    return probe


def checked_choice(owner: str, accepted: object) -> bool:
    """Return what `accepts` returned, if it is True or False."""
    _expect(f"{owner}: accepts() returned", accepted, isinstance(accepted, bool), "True or False")
    return bool(accepted)


def check_model(owner: str, model: Model) -> None:
    """Compare a loaded model with the contract: its methods, its info, its features.

    Raises:
        ContractMismatch: something is missing or of another type.
    """
    for method in ("forward", "rewind", "copy", "close"):
        if not callable(getattr(model, method, None)):
            raise _wrong(f"{owner}: load() returned", model, f"a model: it has no method {method}")
    info = getattr(model, "info", None)
    if not isinstance(info, ModelInfo):
        raise _wrong(f"{owner}: Model.info", info, "a ModelInfo")
    for name in _COUNTS:
        count = getattr(info, name)
        _expect(f"{owner}: ModelInfo.{name}", count, type(count) is int and count >= 1, "an integer of at least 1")
    for name in ("device", "quantization", "version"):
        _expect(f"{owner}: ModelInfo.{name}", getattr(info, name), isinstance(getattr(info, name), str), "a text")
    fits = info.threads is None or (type(info.threads) is int and info.threads >= 1)
    _expect(f"{owner}: ModelInfo.threads", info.threads, fits, "None or an integer of at least 1")
    _expect(f"{owner}: ModelInfo.metadata", info.metadata, _maps_texts(info.metadata), "a mapping of texts")
    known = info.row_independence in get_args(RowIndependence)
    _expect(f"{owner}: ModelInfo.row_independence", info.row_independence, known, "one of the contract's words")
    _check_features(owner, model)


def _check_features(owner: str, model: Model) -> None:
    features = model.info.features
    _expect(f"{owner}: ModelInfo.features", features, isinstance(features, frozenset), "a frozenset")
    unknown = sorted(map(repr, features - set(get_args(Feature))))
    if unknown:
        known = ", ".join(get_args(Feature))
        raise ContractMismatch(f"{owner} names the feature {', '.join(unknown)}; the contract knows {known}")
    for feature in sorted(features):
        for method in FEATURE_METHODS[feature]:
            if not callable(getattr(model, method, None)):
                raise ContractMismatch(f"{owner} names the feature {feature!r}, and its model has no method {method}")


def _is_files(value: object) -> bool:
    return (
        isinstance(value, ModelFiles) and isinstance(value.path, Path) and _all_texts((value.reference, value.format))
    )


def _is_tokenizer(value: object) -> bool:
    size, stops = getattr(value, "vocab_size", None), getattr(value, "stop_ids", None)
    verbs = ("encode", "control_tokens_in", "token_bytes")
    has_verbs = all(callable(getattr(value, verb, None)) for verb in verbs)
    has_rest = all(hasattr(value, name) for name in ("bos_id", "adds_bos", "special_tokens"))
    return type(size) is int and size >= 1 and isinstance(stops, frozenset) and has_verbs and has_rest


def _are_aliases(value: object) -> bool:
    return isinstance(value, Mapping) and all(
        isinstance(name, str) and isinstance(references, list | tuple) and _all_texts(references)
        for name, references in value.items()
    )


def _are_formats(value: object) -> bool:
    return isinstance(value, Mapping) and all(isinstance(row, ToolFormat) for row in value.values())


def _text_or_none(value: object) -> bool:
    return value is None or isinstance(value, str)


def _all_texts(values: object) -> bool:
    return isinstance(values, list | tuple) and all(isinstance(value, str) for value in values)


def _maps_texts(value: object) -> bool:
    return isinstance(value, Mapping) and _all_texts([*value.keys(), *value.values()])


HOOK_ANSWERS: Mapping[str, tuple[Callable[[object], bool], str]] = {
    "phiplug_find_model": (_is_files, "ModelFiles of a reference, a Path and a format"),
    "phiplug_model_aliases": (_are_aliases, "a mapping of texts, each to a list of texts"),
    "phiplug_tokenizer": (_is_tokenizer, "a Tokenizer"),
    "phiplug_chat_template": (lambda value: isinstance(value, str), "a text"),
    "phiplug_tool_formats": (_are_formats, "a mapping of texts, each to a ToolFormat"),
    "phiplug_hardware_info": (_maps_texts, "a mapping of texts"),
}
"""What each hook that returns something may return, apart from None."""


def check_answer(owner: str, hook: str, answer: object) -> None:
    """Compare what a plugin's hook returned with what the hook may return.

    Raises:
        ContractMismatch: it is something else.
    """
    if hook in HOOK_ANSWERS:
        fits, wanted = HOOK_ANSWERS[hook]
        _expect(f"{owner}: {hook} returned", answer, fits(answer), wanted)


def _expect(what: str, value: object, holds: bool, wanted: str) -> None:
    if not holds:
        raise _wrong(what, value, wanted)


def _wrong(what: str, value: object, wanted: str) -> ContractMismatch:
    try:
        shown = repr(value)[:80]
    except Exception:  # noqa: BLE001  a plugin's __repr__ is a plugin's code too
        shown = f"a {type(value).__name__}"
    return ContractMismatch(f"{what} {shown}, which is not {wanted}", hint="docs/plugins.md says what it may be")


def _other_version(owner: str, version: str, because: str = "") -> ContractMismatch:
    return ContractMismatch(
        f"{owner} was written for {version} of the contract, and this phiplug accepts {ACCEPTED}{because}", hint=WHERE
    )
