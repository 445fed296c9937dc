"""Keeps the contract of `phiplug.spi` with a module of mlx-lm and its caches.

MLX builds a graph and computes it while Python goes on: `forward` starts at once, and `Pass.logits` waits. At most one
pass is under way, and a guess of one token behind it, so that a long prompt does not queue up where nobody can
interrupt it. It knows nothing of files.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Literal

import mlx.core as mx
from mlx import nn

from phiplug.errors import (
    BackendFailed,
    InvalidParameter,
    OutOfMemory,
    PhiplugError,
    UnsupportedParameter,
)
from phiplug.spi import LoadOptions, ModelFiles, ModelInfo, Step
from phiplug_mlx.devices import CHUNKS, choose_device, mlx_device
from phiplug_mlx.passes import MLXGuess, MLXPass
from phiplug_mlx.slots import Caches, Slots, arrays_of, full_bytes, make_caches

if TYPE_CHECKING:
    from phiplug.spi import Draw
    from phiplug_mlx.weights import Loaded

_PRECISIONS: dict[Any, Literal["float32", "float16", "bfloat16"]] = {  # Any: mx.Dtype
    mx.float32: "float32",
    mx.float16: "float16",
    mx.bfloat16: "bfloat16",
}
_RECLAIM_EVERY = 256  # passes between two times that MLX gives unused memory back, as mlx-lm's loop does


class MLXModel:
    """A `phiplug.spi.Model` on one device.

    Args:
        loaded: the module and what is known of it.
        info: what the model says of itself.
        device: what `mx.stream` takes.

    Attributes:
        module: mlx-lm's model, for who wants to run mlx-lm's own loop on the same weights; None once closed.
    """

    def __init__(self, loaded: Loaded, info: ModelInfo, device: Any) -> None:  # Any: an mx.Device
        self.info = info
        self.module = loaded.module
        self._tail = _keep_last_rows(loaded.module)
        self._device = device
        self._slots = Slots(lambda: make_caches(loaded.module), info.slots)
        self._under_way: list[MLXPass] = []  # a pass, and perhaps a guess that goes on from it
        self._passes = 0

    def forward(self, steps: Sequence[Step]) -> MLXPass:
        """Start a pass; single tokens of several slots go through the module at once, a longer step on its own.

        Raises:
            InvalidParameter: a token is outside the vocabulary.
            BackendFailed, OutOfMemory: this pass, or the one before that nobody has read, failed; its slots are empty.
        """
        self._settle()
        for step in steps:
            if min(step.tokens) < 0 or max(step.tokens) >= self.info.vocab_size:
                raise InvalidParameter("tokens", f"an id is outside the vocabulary of {self.info.vocab_size}")
        slots = [step.slot for step in steps]
        with self._guard(slots):
            rows, arrays = self._start(steps)
            mx.async_eval(rows, *arrays)  # type: ignore[no-untyped-call]  # mlx has no types for it
            asked = MLXPass(self, slots, [step.rows for step in steps], rows, arrays)
            self._under_way.append(asked)
        self._reclaim()
        return asked

    def guess(self, asked: MLXPass, draws: Sequence[Draw | None]) -> MLXGuess | None:
        """Start the pass behind `asked` with tokens that the device draws; see `phiplug.spi.Guesses.guess`.

        Raises:
            BackendFailed, OutOfMemory: it could not be started; its slots are empty, and `asked` has failed.
        """
        for other in [other for other in self._under_way if other is not asked]:
            other.settle()
        going = [(slot, row, draw) for (slot, row), draw in zip(asked.last_rows(), draws, strict=True) if draw]
        steps = [Step(slot, (0,)) for slot, _, _ in going]
        slots = [step.slot for step in steps]
        if not self._slots.can_take_back(slots):
            return None
        try:
            with self._guard(asked.slots):
                rows = asked.release()
                ids = mx.stack([draw(mx, rows[row]) for _, row, draw in going])
                mx.async_eval(ids)  # type: ignore[no-untyped-call]  # before the pass that they are fed to
                rows, arrays = self._start(steps, ids)
                mx.async_eval(rows, *arrays)  # type: ignore[no-untyped-call]
                guess = MLXGuess(self, slots, rows, arrays, asked, ids)
                self._under_way.append(guess)
        except BaseException:
            self._under_way = []
            asked.fail()
            raise
        self._reclaim()
        return guess

    def rewind(self, slot: int, length: int) -> int:
        """Keep at most the first `length` tokens of `slot`; none where a sliding window has dropped what is needed."""
        self._settle()
        with self._guard([slot]):
            return self._slots.rewind(slot, length)

    def copy(self, source: int, target: int, length: int) -> int:
        """Make `target` hold the first `length` tokens of `source`, or none as in `rewind`."""
        self._settle()
        with self._guard([target]):
            return self._slots.copy(source, target, length)

    def close(self) -> None:
        """Drop the weights and the caches, and a pass that is under way."""
        self._under_way = []
        self.module, self._tail = None, None
        self._slots = Slots(list, 0)
        mx.clear_cache()

    def peak_memory(self) -> int:
        """Return the most that MLX has held at once, in bytes; see `phiplug.spi.Metered`."""
        return int(mx.get_peak_memory())

    def wait(self, asked: MLXPass, rows: Any, arrays: list[Any]) -> None:  # Any: mx.array
        """Wait until a pass is computed; called by the pass, once. What goes on from one that fails, fails."""
        if self.module is None:
            raise BackendFailed("the model was closed before this pass was read")
        others = [other for other in self._under_way if other is not asked]
        self._under_way = []
        try:
            with self._guard(asked.slots):
                mx.eval(rows, *arrays)
        except BaseException:
            for other in others:
                other.fail()
            raise
        self._under_way = others

    def read(self, guess: MLXGuess, ids: Any) -> list[int]:  # Any: mx.array
        """Wait for the ids that a guess has drawn and return them; called by the guess."""
        if self.module is None:
            raise BackendFailed("the model was closed before this guess was read")
        try:
            with self._guard(guess.slots):
                tokens: list[int] = ids.tolist()
        except BaseException:
            self._under_way = [other for other in self._under_way if other is not guess]
            guess.fail()
            raise
        return tokens

    def _settle(self) -> None:
        for asked in [*self._under_way]:
            asked.settle()

    def _reclaim(self) -> None:
        """Give unused memory back now and then."""
        self._passes += 1
        if self._passes % _RECLAIM_EVERY == 0:
            mx.clear_cache()

    def _start(self, steps: Sequence[Step], ids: Any = None) -> tuple[Any, list[Any]]:  # Any: mx.array
        """Build the graph of a pass; return its rows in the order of the steps, and the arrays of its caches.

        Where `ids` are given, (steps,), they are the tokens of the steps, one each.
        """
        groups = _groups(steps)
        rows: dict[int, Any] = {}  # Any: mx.array
        arrays: list[Any] = []
        for group in groups:
            slots = tuple(steps[index].slot for index in group)
            caches = self._slots.together(slots) if len(slots) > 1 else self._slots.alone(slots[0])
            tokens = [list(steps[index].tokens) for index in group]
            given = mx.array(tokens) if ids is None else ids[mx.array(group)][:, None]
            logits = self._call(given, caches, steps[group[0]].rows)
            arrays += arrays_of(caches)
            if groups == [list(range(len(steps)))]:  # as nearly always: nothing to gather
                rows = {0: logits.reshape(-1, self.info.vocab_size)}
            else:
                rows |= zip(group, logits, strict=True)
            for slot, index in zip(slots, group, strict=True):
                self._slots.lengths[slot] += len(steps[index].tokens)
        return (rows[0] if len(rows) == 1 else mx.concatenate([rows[index] for index in sorted(rows)])), arrays

    def _call(self, tokens: Any, caches: Caches, rows: int) -> Any:  # Any: mx.array
        """Add the graph of one call of the module, with ids of shape (sequences, tokens).

        Returns:
            float32, shape (sequences, rows, vocab_size).
        """
        if self._tail is not None:
            self._tail.rows = max(rows, 1)
        logits = self.module(tokens, cache=caches)
        if not rows:  # MLX would compute what an empty slice is taken from
            return mx.zeros((len(tokens), 0, self.info.vocab_size))
        return mx.contiguous(logits[:, -rows:].astype(mx.float32))

    @contextmanager
    def _guard(self, slots: Sequence[int]) -> Iterator[None]:
        """Compute on the model's device; empty the slots where that fails, and say so in the contract's words."""
        try:
            with mx.stream(self._device):
                yield
        except PhiplugError:
            raise
        except (ArithmeticError, LookupError, MemoryError, RuntimeError, TypeError, ValueError) as error:
            self._slots.forget(slots)
            raise translated(error) from error
        except BaseException:  # Ctrl-C, which may have come at any point
            self._slots.forget(slots)
            raise


class LastRows(nn.Module):  # type: ignore[misc]  # mlx brings no types that mypy follows
    """A model's last norm, for the last `rows` tokens only: the output matrix behind it is a fifth of a small model."""

    def __init__(self, norm: Any) -> None:  # Any: an nn.Module
        super().__init__()
        self.norm = norm
        self.rows = 1

    def __call__(self, hidden: Any) -> Any:  # Any: mx.array
        """Shape (batch, tokens, hidden_size) -> (batch, at most rows, hidden_size)."""
        return self.norm(hidden[:, -self.rows :])


def load(files: ModelFiles, options: LoadOptions) -> MLXModel:
    """Load a GGUF file, or a folder with config.json and safetensors.

    Raises:
        ModelNotFound, ModelCorrupt, ModelUnsupported: the files are missing, damaged, or beyond this backend.
        UnsupportedParameter: an option asks for what MLX cannot do.
        OutOfMemory: the weights do not fit.
    """
    from phiplug_mlx.folders import load_folder
    from phiplug_mlx.gguf_model import load_gguf

    device = choose_device(options.device)
    _refuse_what_mlx_cannot(options, device)
    read = load_gguf if files.format == "gguf" else load_folder
    try:
        with mx.stream(mlx_device(device)):
            loaded = read(files.path, device, options)
            caches = make_caches(loaded.module)
            logits = loaded.module(mx.array([[0]]), cache=caches)  # never computed: type and shapes are known before
    except (MemoryError, RuntimeError) as error:
        raise translated(error) from error
    info = ModelInfo(
        vocab_size=loaded.vocab_size,
        context_length=loaded.context_length,
        slots=options.slots,
        device=device,
        quantization=loaded.quantization,
        version=version("mlx"),
        chunk=CHUNKS[device],
        features=frozenset({"copy", "meter", "guess"}),
        logits_precision=_PRECISIONS[logits.dtype],
        cache_bytes=options.slots * full_bytes(caches, loaded.context_length),
        metadata={**loaded.metadata, "mlx-lm": version("mlx-lm"), **_device_name()},
    )
    return MLXModel(loaded, info, mlx_device(device))


def _device_name() -> dict[str, str]:
    """The chip, where this MLX says which; older ones keep it in a module of each kind of device."""
    told = mx.device_info() if hasattr(mx, "device_info") else {}
    return {"device name": str(told["device_name"])} if "device_name" in told else {}


def translated(error: Exception) -> PhiplugError:
    """Turn what MLX raised into the contract's error; MLX has no class of its own for lack of memory."""
    text = str(error) or type(error).__name__
    if isinstance(error, MemoryError) or any(word in text.lower() for word in ("malloc", "memory", "alloc")):
        return OutOfMemory(f"mlx ran out of memory: {text}", hint="lower `ctx_size`, or use a smaller model")
    return BackendFailed(f"mlx failed: {text}")


def _groups(steps: Sequence[Step]) -> list[list[int]]:
    """Put the steps that go through the module together into groups, by index.

    Single tokens with a row each are one group, in the order of their slots, so that the same slots make the same
    batch whatever the order of the steps.
    """
    single = [index for index, step in enumerate(steps) if len(step.tokens) == step.rows == 1]
    single.sort(key=lambda index: steps[index].slot)
    others = [[index] for index in range(len(steps)) if index not in single]
    return [single, *others] if single else others


def _keep_last_rows(module: Any) -> LastRows | None:  # Any: an nn.Module
    """Put `LastRows` in the place of the last norm, where the module is built as most are."""
    trunk = getattr(module, "model", None)
    norm = getattr(trunk, "norm", None)
    if trunk is None or norm is None:
        return None
    trunk.norm = tail = LastRows(norm)
    return tail


def _refuse_what_mlx_cannot(options: LoadOptions, device: str) -> None:
    everywhere = (None, -1, 0) if device == "cpu" else (None, -1)
    if options.gpu_layers not in everywhere:
        raise UnsupportedParameter(
            "gpu_layers", f"MLX computes all layers on one device, here {device}", hint="choose it with `device`"
        )
    if options.threads is not None:
        raise UnsupportedParameter("threads", "MLX chooses its threads itself", hint="leave it out")
