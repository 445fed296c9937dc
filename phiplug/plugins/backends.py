"""Asks a backend, and holds its answers to the contract: every wrong answer is a typed error that names the backend."""

from __future__ import annotations

import contextlib
from functools import partial
from typing import TYPE_CHECKING

from phiplug.errors import BackendFailed, BackendUnavailable, PhiplugError
from phiplug.plugins.calls import guarded, quiet, said
from phiplug.plugins.contract import check_model, checked_choice, checked_probe, misfit

if TYPE_CHECKING:
    from phiplug.spi import Backend, LoadOptions, Model, ModelFiles, Probe


def probe(backend: Backend) -> Probe:
    """Ask whether the backend's engine works here.

    Raises:
        BackendFailed: the probe raised something or gave no answer in time.
        ContractMismatch: it returned no `Probe`, or one with wrong fields.
    """
    owner = named(backend)
    return checked_probe(owner, guarded(owner, backend.probe, BackendFailed))


def accepts(backend: Backend, files: ModelFiles) -> bool:
    """Ask whether the backend takes these files.

    Raises:
        BackendFailed: it raised something or gave no answer in time.
        ContractMismatch: it returned something other than True or False.
    """
    owner = named(backend)
    return checked_choice(owner, guarded(owner, partial(backend.accepts, files), BackendFailed))


def load_model(backend: Backend, files: ModelFiles, options: LoadOptions) -> Model:
    """Probe the backend and load the files into it, which may take as long as it takes.

    Raises:
        BackendUnavailable: its engine is missing or does not work here.
        ModelError: the files are damaged, or the backend does not take them.
        BackendFailed: it raised something else.
        ContractMismatch: what it returned is no model of this version of the contract.
    """
    found = probe(backend)
    if not found.available:
        raise BackendUnavailable(f"{named(backend)} does not work here: {found.reason}", hint=found.install)
    model = _loaded(backend, files, options)
    try:
        guarded(
            named(backend), partial(check_model, named(backend), model), BackendFailed
        )  # its attributes are code too
    except PhiplugError:
        _abandon(model)
        raise
    return model


def named(backend: Backend) -> str:
    """Return how errors name a backend."""
    return f"the backend {backend.name}"


def _loaded(backend: Backend, files: ModelFiles, options: LoadOptions) -> Model:
    try:
        with quiet:
            return backend.load(files, options)
    except PhiplugError:
        raise
    except (Exception, SystemExit) as error:
        if (mismatch := misfit(named(backend), error)) is not None:
            raise mismatch from error
        raise BackendFailed(f"{named(backend)} failed: {said(error)}") from error


def _abandon(model: Model) -> None:
    """Close what `load` returned, if it can be closed; the error that is raised already says what is wrong."""
    with contextlib.suppress(Exception, SystemExit):
        model.close()
