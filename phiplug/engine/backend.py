"""Calls a backend's model with care: whatever it raises, or returns wrongly, becomes a typed error that names it.

It knows the contract of `phiplug.spi` and nothing of sequences. What it checks of each pass costs the same for every
vocabulary.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TypeVar, cast

import numpy as np

from phiplug.errors import BackendFailed, ContractMismatch, OutOfMemory, PhiplugError, RequestError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from phiplug.spi import Autotunes, Draw, Guess, Guesses, Logits, Model, ModelInfo, Pass, Step

T = TypeVar("T")


class GuardedModel:
    """The model that an engine drives.

    Attributes:
        name: of its backend, for errors.
    """

    def __init__(self, model: Model, name: str) -> None:
        self.name = name
        self._model = model
        self._closed = False
        self._process = os.getpid()

    @property
    def info(self) -> ModelInfo:
        """What the model says about itself."""
        return self._model.info

    @property
    def copies(self) -> bool:
        """Whether `copy` can share a prefix."""
        return "copy" in self._model.info.features

    def forward(self, steps: Sequence[Step]) -> Pass:
        """Ask for a pass; see `phiplug.spi.Model.forward`."""
        asked = self._guarded(lambda: self._model.forward(steps))
        if not callable(getattr(asked, "logits", None)):
            raise self._wrong("forward", asked, "a Pass")
        return asked

    @property
    def guesses(self) -> bool:
        """Whether the model has the feature "guess"."""
        return "guess" in self._model.info.features

    def guess(self, asked: Pass, draws: Sequence[Draw | None]) -> Guess | None:
        """Ask for the pass behind `asked`, with tokens that the device draws; see `phiplug.spi.Guesses.guess`."""
        guess = self._guarded(lambda: cast("Guesses", self._model).guess(asked, draws))
        if guess is not None and not all(callable(getattr(guess, verb, None)) for verb in ("logits", "tokens")):
            raise self._wrong("guess", guess, "a Guess")
        return guess

    def tokens(self, guess: Guess, count: int) -> list[int]:
        """Wait for the tokens of a guess and return them.

        Raises:
            ContractMismatch: they are not `count` ids.
            GenerationError: the pass that they were drawn from failed.
        """
        tokens = self._guarded(lambda: [*guess.tokens()])
        if len(tokens) != count or not all(type(token) is int for token in tokens):
            raise self._wrong("tokens", tokens, f"{count} ids")
        return tokens

    def logits(self, asked: Pass, rows: int) -> Logits:
        """Wait for a pass and return its rows.

        Raises:
            ContractMismatch: they are not float32 (rows, vocab_size).
            GenerationError: the pass failed.
        """
        logits = self._guarded(asked.logits)
        shape = (rows, self.info.vocab_size)
        if not isinstance(logits, np.ndarray):
            raise self._wrong("logits", logits, f"a NumPy array, float32 {shape}")
        if logits.shape != shape or logits.dtype != np.float32:
            raise ContractMismatch(
                f"{self.name} returned {logits.dtype} logits of shape {logits.shape} where float32 {shape} was promised"
            )
        return logits

    def rewind(self, slot: int, length: int) -> int:
        """Keep at most `length` tokens of a slot; return how many were kept."""
        return self._length("rewind", self._guarded(lambda: self._model.rewind(slot, length)), length)

    def copy(self, source: int, target: int, length: int) -> int:
        """Copy the first `length` tokens of a slot into another; return how many it holds."""
        return self._length("copy", self._guarded(lambda: self._model.copy(source, target, length)), length)

    def autotune(self) -> None:
        """Let a model that has the feature "autotune" choose its threads anew."""
        if "autotune" in self._model.info.features:
            self._guarded(cast("Autotunes", self._model).autotune)

    def close(self) -> None:
        """Give back the model's memory. May be called twice."""
        if self._closed or os.getpid() != self._process:  # a forked child has none of the engine's threads to end
            return
        try:
            self._guarded(self._model.close)
        finally:
            self._closed = True

    def _length(self, verb: str, kept: object, wanted: int) -> int:
        if type(kept) is not int or not 0 <= kept <= wanted:
            raise self._wrong(verb, kept, f"a number of tokens from 0 to {wanted}")
        return kept

    def _wrong(self, verb: str, value: object, wanted: str) -> ContractMismatch:
        shown = repr(value) if isinstance(value, int | float | str | None) else f"a {type(value).__name__}"
        return ContractMismatch(f"{self.name} returned {shown[:80]} from {verb}(), which is not {wanted}")

    def _guarded(self, call: Callable[[], T]) -> T:
        """Call the backend; what it raises that is not ours becomes ours and bears its name."""
        if self._closed:
            raise RequestError("the model was closed", hint="load it again")
        if os.getpid() != self._process:
            raise RequestError("the model was loaded before os.fork()", hint="load it in the process that uses it")
        try:
            return call()
        except PhiplugError:
            raise
        except MemoryError as error:
            raise OutOfMemory(f"{self.name} ran out of memory", hint="lower `ctx_size`") from error
        except (Exception, SystemExit) as error:
            raise BackendFailed(f"{self.name} failed: {type(error).__name__}: {error}") from error
