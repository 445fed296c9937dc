"""Holds what a plugin gives to the contract: each wrong value becomes an error that names the plugin.

It knows the contract and nothing of entry points, hooks or processes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

from phiplug.errors import ContractMismatch, PluginError
from phiplug.spi import API_VERSION, OLDEST_API, Backend, Feature

if TYPE_CHECKING:
    from collections.abc import Mapping

    from phiplug.spi import Model

ACCEPTED = f"version {API_VERSION}" if OLDEST_API == API_VERSION else f"versions {OLDEST_API} to {API_VERSION}"
WHERE = "docs/plugins.md, under Versions, says what changed"
FEATURE_METHODS: Mapping[Feature, tuple[str, ...]] = {
    "copy": ("copy",),
    "autotune": ("autotune", "forget"),
    "meter": ("peak_memory",),
}
_CONSTRUCTORS = ("Backend.__init__()", "ModelInfo.__init__()")


def named_backend(owner: str, name: str, answers: list[object]) -> Backend:
    """Return the one backend of `name` among what a plugin's hook returned, if its version is accepted.

    Raises:
        ContractMismatch: there is no such backend, or it was written for another version of the contract.
    """
    listed = [backend for answer in answers if isinstance(answer, list | tuple) for backend in answer]
    named = [backend for backend in listed if isinstance(backend, Backend) and backend.name == name]
    if len(named) != 1:
        raise ContractMismatch(f"{owner} registers no list with one backend {name!r}")
    version = named[0].api
    if not isinstance(version, int) or not OLDEST_API <= version <= API_VERSION:
        raise _other_version(owner, f"version {version!r}")
    return named[0]


def misfit(owner: str, error: BaseException) -> PluginError | None:
    """Return the error to raise where a plugin built a `Backend` or a `ModelInfo` of another version, else None."""
    if not isinstance(error, TypeError) or not str(error).startswith(_CONSTRUCTORS):
        return None
    return _other_version(owner, "version 1 or another version", because=f": {error}")


def check_features(owner: str, model: Model) -> None:
    """Compare the features that a model names with those of the contract and with its methods.

    Raises:
        ContractMismatch: a feature is unknown, or the model lacks its method.
    """
    features = model.info.features
    if not isinstance(features, frozenset):
        raise ContractMismatch(f"{owner}: ModelInfo.features is {features!r}, which is no frozenset")
    unknown = sorted(map(repr, features - set(get_args(Feature))))
    if unknown:
        known = ", ".join(get_args(Feature))
        raise ContractMismatch(f"{owner} names the feature {', '.join(unknown)}; the contract knows {known}")
    for feature in sorted(features):
        for method in FEATURE_METHODS[feature]:
            if not callable(getattr(model, method, None)):
                raise ContractMismatch(f"{owner} names the feature {feature!r}, and its model has no method {method}")


def _other_version(owner: str, version: str, because: str = "") -> ContractMismatch:
    return ContractMismatch(
        f"{owner} was written for {version} of the contract, and this phiplug accepts {ACCEPTED}{because}", hint=WHERE
    )
