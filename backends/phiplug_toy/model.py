"""Computes logits from a page of text: how often a byte followed the four before it, and a little of the rest.

The second part is a checksum of all that the slot holds, spread over the vocabulary: so the logits of this model, like
those of a real one, depend on every token before them, and a cache that kept the wrong token shows.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from phiplug.deferred import DeferredGuess, DeferredPass, DeferredPasses
from phiplug.errors import ModelCorrupt, ModelNotFound, UnsupportedParameter
from phiplug.spi import Draw, LoadOptions, ModelFiles, ModelInfo, Step
from phiplug_toy.tokenizer import STOP, VOCAB_SIZE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from phiplug.spi import Logits

CONTEXT_LENGTH = 4096
CHUNK = 64
ORDER = 4  # how many tokens back the counts look
UNSEEN = 1e-6  # counts as this many times seen: about -14 as a logit
SWAY = 2.0  # how far, in logits, what came before the last ORDER tokens can move a row


class ToyModel:
    """A `phiplug.spi.Model` that keeps a list of tokens for each slot.

    Attributes:
        wrong_every: every so many-th token that it guesses is made a wrong one, as a test wants it; 0 for none.
    """

    def __init__(self, following: dict[tuple[int, ...], NDArray[np.float32]], info: ModelInfo) -> None:
        self.info = info
        self._following = following
        self._slots: list[list[int]] = [[] for _ in range(info.slots)]
        self._passes = DeferredPasses(self._compute)
        self._asked: Sequence[Step] = ()  # of the pass that was asked for last
        self.wrong_every = self._guessed = 0

    def forward(self, steps: Sequence[Step]) -> DeferredPass:
        """Note what is asked; it is done when the pass is read, or before the model is touched again."""
        asked = self._passes.ask(steps)
        self._asked = steps
        return asked

    def guess(self, asked: DeferredPass, draws: Sequence[Draw | None]) -> DeferredGuess:
        """Go on from a token that is drawn here; a device would do so without waiting for the host."""
        going = [(step.slot, draw) for step, draw in zip(self._asked, draws, strict=True) if draw is not None]
        ends = np.cumsum([step.rows for step in self._asked])
        last = [int(end) - 1 for end, draw in zip(ends, draws, strict=True) if draw is not None]
        self._asked = [Step(slot, (0,)) for slot, _ in going]
        return self._passes.guess(asked, lambda rows: self._drawn(going, rows[last]))

    def rewind(self, slot: int, length: int) -> int:
        """Keep at most the first `length` tokens of `slot`; return how many were kept."""
        self._passes.settle()
        del self._slots[slot][length:]
        return len(self._slots[slot])

    def copy(self, source: int, target: int, length: int) -> int:
        """Make `target` hold the first `length` tokens of `source`; return how many it holds."""
        self._passes.settle()
        self._slots[target] = self._slots[source][:length]
        return len(self._slots[target])

    def close(self) -> None:
        """Forget everything, the pending pass too."""
        self._passes.close()
        self._slots, self._following = [], {}

    def _drawn(self, going: Sequence[tuple[int, Draw]], rows: Logits) -> list[Step]:
        steps = []
        for (slot, draw), row in zip(going, rows, strict=True):
            self._guessed += 1
            is_wrong = self.wrong_every and self._guessed % self.wrong_every == 0
            with np.errstate(all="ignore"):  # what overflows cannot win
                token = int(draw(np, row))
            steps.append(Step(slot, ((token + bool(is_wrong)) % VOCAB_SIZE,)))
        return steps

    def _compute(self, steps: Sequence[Step]) -> Logits:
        """Append the tokens of each step to its slot and return the rows."""
        rows = []
        for step in steps:
            held = self._slots[step.slot]
            held.extend(step.tokens)
            rows += [self._row(held[:length]) for length in range(len(held) - step.rows + 1, len(held) + 1)]
        return np.array(rows, np.float32).reshape(-1, VOCAB_SIZE)

    def _row(self, prefix: list[int]) -> NDArray[np.float32]:
        """The logits after `prefix`, by its longest ending that the page has; the empty one it has always."""
        endings = (tuple(prefix[len(prefix) - length :]) for length in range(min(ORDER, len(prefix)), -1, -1))
        seen = next(self._following[ending] for ending in endings if ending in self._following)
        return seen + SWAY * _noise(zlib.crc32(np.array(prefix, np.uint16).tobytes()))


def load(files: ModelFiles, options: LoadOptions) -> ToyModel:
    """Read the page and count which token follows which.

    Raises:
        ModelNotFound: there is no such file.
        ModelCorrupt: the file is no text, empty or cut off.
        UnsupportedParameter: an option asks for what a toy does not have.
    """
    _refuse_what_it_cannot(options)
    info = ModelInfo(
        vocab_size=VOCAB_SIZE,
        context_length=options.ctx_size or CONTEXT_LENGTH,
        slots=options.slots,
        device="cpu",
        quantization="counts, float32",
        version=np.__version__,
        chunk=CHUNK,
        threads=1,
        equal_passes=CHUNK,
        row_independence="all",
        features=frozenset({"copy", "guess"}),
    )
    return ToyModel(_count(_read(files)), info)


def _refuse_what_it_cannot(options: LoadOptions) -> None:
    possible = {
        "device": (None, "cpu"),
        "ctx_size": (None, *range(1, CONTEXT_LENGTH + 1)),
        "threads": (None, 1),
        "gpu_layers": (None, 0),
    }
    for name, values in possible.items():
        if (value := getattr(options, name)) not in values:
            raise UnsupportedParameter(name, f"the toy backend cannot do {value}", hint="leave it out")


def _read(files: ModelFiles) -> str:
    try:
        text = files.path.read_bytes().decode("ascii")
    except OSError as error:
        raise ModelNotFound(f"{files.path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ModelCorrupt(f"{files.path} is not a page of ASCII text: byte {error.start} is not a character") from None
    if not text.endswith("\n"):
        raise ModelCorrupt(f"{files.path} is empty or cut off: its last line has no end")
    return text


def _count(text: str) -> dict[tuple[int, ...], NDArray[np.float32]]:
    """For each ending of 0 to ORDER tokens, the log of how often each token followed it: float32, (VOCAB_SIZE,)."""
    rows: dict[tuple[int, ...], NDArray[np.float32]] = {}
    for line in text.splitlines():
        tokens = [*f": {line}".encode(), STOP]  # an answer comes after the colon that the chat template ends with
        for at in range(2, len(tokens)):
            for length in range(min(ORDER, at) + 1):
                row = rows.setdefault(tuple(tokens[at - length : at]), np.full(VOCAB_SIZE, UNSEEN, np.float32))
                row[tokens[at]] += 1
    return {ending: np.log(row) for ending, row in rows.items()}


def _noise(seed: int) -> NDArray[np.float32]:
    """One number in [0, 1) for each token: float32, (VOCAB_SIZE,); multiplicative hashing, Knuth, TAOCP 6.4."""
    mixed = np.arange(VOCAB_SIZE, dtype=np.uint32) * np.uint32(2654435761) ^ np.uint32(seed)
    mixed = (mixed ^ mixed >> np.uint32(15)) * np.uint32(2246822519)
    return (mixed >> np.uint32(8)).astype(np.float32) / np.float32(2**24)
