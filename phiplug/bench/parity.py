"""Measures how far two loaded models agree on texts: likeliest token, sampled picks, distributions, continuations.

Both are given the same ids in the same chunks (teacher forcing), so every position is compared on equal terms. How far
each one differs from itself, between a prefill and decoding one by one, is measured too: that is the noise below which
a difference between the two means nothing. It knows nothing of how the models were loaded or how a report is shown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.resources import files as resource_files
from itertools import takewhile
from typing import TYPE_CHECKING

import numpy as np

from phiplug.errors import InvalidParameter
from phiplug.llm import PromptOptions
from phiplug.sampling import Sampler
from phiplug.types import Request, SamplingParams

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from phiplug.llm import LLM
    from phiplug.spi import Logits

CHUNK = 128  # ids in a pass, the same for both models
SEEDS = 24  # sampled picks are compared with so many seeds, and the mean is given
NOISE_POSITIONS = 128  # decoding one by one is slow
CONTINUATION = 64  # tokens
CONTINUED_PROMPTS = 4
CONTINUATION_SEED = 1
RAW = PromptOptions(raw=True)

Advance = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far two sets of logits over the same positions agree.

    Attributes:
        positions: how many were compared.
        top1: the share of positions with the same largest logit.
        kl_mean: mean Kullback-Leibler divergence of the second from the first, in nats.
        kl_p99: its 99th percentile.
        max_difference: the largest difference between two logits of a token, each row's mean taken away.
    """

    positions: int
    top1: float
    kl_mean: float
    kl_p99: float
    max_difference: float


@dataclass(frozen=True, slots=True)
class Parity:
    """What `compare` found of two models.

    Attributes:
        names: of the two.
        agreement: over the forced positions.
        sampled: the share of equal picks with default settings, mean over `SEEDS` seeds, the history forced.
        noise: of each model, its own prefill against decoding one by one.
        greedy: for each continued prompt, the first token at which greedy continuations differ; None if they do not.
        seeded: the same for continuations with default settings and one seed.
    """

    names: tuple[str, str]
    agreement: Agreement
    sampled: float
    noise: tuple[Agreement, Agreement]
    greedy: tuple[int | None, ...]
    seeded: tuple[int | None, ...]


def default_prompts() -> list[str]:
    """Return the texts that are compared when the user gives none: prose, code, numbers, several languages."""
    text = resource_files("phiplug").joinpath("data/parity.txt").read_text(encoding="utf-8")
    return split_prompts(text)


def split_prompts(text: str) -> list[str]:
    """Split a file of prompts at its lines of three hyphens; blank ones are left out."""
    return [prompt for piece in text.split("\n---\n") if (prompt := piece.strip())]


def compare(a: LLM, b: LLM, texts: Sequence[str], *, positions: int = 512, advance: Advance = lambda _: None) -> Parity:
    """Compare two models of one vocabulary over `positions` ids of `texts`, and their continuations.

    `advance` is told how many positions were computed, of `work(positions)` in all.
    """
    prompts = list(_prompts(a, b, texts, positions))
    tally = _Tally()
    for ids in prompts:
        for start, (rows_a, rows_b) in enumerate(_side_by_side(a, b, ids)):
            tally.add(rows_a, rows_b)
            tally.draw(rows_a, rows_b, ids, start * CHUNK)
            advance(2 * len(rows_a))
    noise = (_noise(a, prompts, advance), _noise(b, prompts, advance))
    greedy = SamplingParams(temperature=0.0, repeat_penalty=1.0, seed=0)
    seeded = SamplingParams(seed=CONTINUATION_SEED)
    return Parity(
        names=(a.backend, b.backend),
        agreement=tally.agreement(),
        sampled=tally.equal_picks / (tally.positions * SEEDS),
        noise=noise,
        greedy=tuple(_divergence(a, b, ids, greedy, advance) for ids in prompts[:CONTINUED_PROMPTS]),
        seeded=tuple(_divergence(a, b, ids, seeded, advance) for ids in prompts[:CONTINUED_PROMPTS]),
    )


def agreement(
    a: LLM, b: LLM, texts: Sequence[str], *, positions: int = 512, advance: Advance = lambda _: None
) -> Agreement:
    """Compare the logits of two models over `positions` ids of `texts`, and nothing else: a fraction of `compare`.

    `advance` is told how many positions were computed, of twice `positions`.
    """
    tally = _Tally()
    for ids in _prompts(a, b, texts, positions):
        for rows_a, rows_b in _side_by_side(a, b, ids):
            tally.add(rows_a, rows_b)
            advance(2 * len(rows_a))
    return tally.agreement()


def picks(llm: LLM, texts: Sequence[str], *, positions: int = 512) -> list[int]:
    """Return the likeliest token after each of `positions` ids of `texts`, as `agreement` compares them."""
    return [
        int(token)
        for ids in _prompts(llm, llm, texts, positions)
        for rows in llm.engine.rows(ids, chunk=CHUNK)
        for token in rows.argmax(axis=1)
    ]


def work(positions: int, texts: Sequence[str]) -> int:
    """Return how many positions `compare` computes at the most, over both models."""
    continued = 2 * 2 * CONTINUATION * min(len(texts), CONTINUED_PROMPTS)
    return 2 * positions + 2 * 2 * min(positions, NOISE_POSITIONS) + continued


@dataclass(slots=True)
class _Tally:
    """Adds up rows, so that no more than a chunk of logits is ever held."""

    positions: int = 0
    equal_tops: int = 0
    equal_picks: int = 0
    max_difference: float = 0.0
    divergences: list[float] = field(default_factory=list)

    def add(self, a: NDArray[np.float64], b: NDArray[np.float64]) -> None:
        self.positions += len(a)
        self.equal_tops += int((a.argmax(axis=1) == b.argmax(axis=1)).sum())
        centred = (a - a.mean(axis=1, keepdims=True)) - (b - b.mean(axis=1, keepdims=True))
        self.max_difference = max(self.max_difference, float(np.abs(centred).max()))
        self.divergences.extend(_divergences(a, b))

    def draw(self, a: NDArray[np.float64], b: NDArray[np.float64], ids: Sequence[int], start: int) -> None:
        """Draw from each row on both sides as if the ids before had been sampled."""
        for offset, (row_a, row_b) in enumerate(zip(a.astype(np.float32), b.astype(np.float32), strict=True)):
            history = ids[: start + offset + 1]
            for seed in range(SEEDS):
                params = SamplingParams(seed=seed)
                self.equal_picks += Sampler(params, (), history)(row_a) == Sampler(params, (), history)(row_b)

    def agreement(self) -> Agreement:
        return Agreement(
            positions=self.positions,
            top1=self.equal_tops / self.positions,
            kl_mean=float(np.mean(self.divergences)),
            kl_p99=float(np.percentile(self.divergences, 99)),
            max_difference=self.max_difference,
        )


def _prompts(a: LLM, b: LLM, texts: Sequence[str], positions: int) -> Iterator[list[int]]:
    """Yield the ids of the texts, as long as both contexts allow, until there are enough; the last is cut short."""
    if positions < 1 or not texts:
        raise InvalidParameter("positions" if texts else "texts", "leave nothing to compare")
    longest = min(a.info.context_length, b.info.context_length)
    for text in texts:
        if positions <= 0:
            return
        ids = a.encode(text, RAW)[: min(positions, longest)]
        positions -= len(ids)
        yield ids


def _side_by_side(a: LLM, b: LLM, ids: list[int]) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Yield the rows of both models, a chunk at a time; ids beyond the narrower vocabulary are left out."""
    for rows_a, rows_b in zip(a.engine.rows(ids, chunk=CHUNK), b.engine.rows(ids, chunk=CHUNK), strict=True):
        width = min(rows_a.shape[1], rows_b.shape[1])
        yield rows_a[:, :width].astype(np.float64), rows_b[:, :width].astype(np.float64)


def _noise(llm: LLM, prompts: Sequence[list[int]], advance: Advance) -> Agreement:
    """Compare a model with itself: a prefill against decoding one by one."""
    tally = _Tally()
    left = NOISE_POSITIONS
    for ids in prompts:
        piece = ids[: min(left, CHUNK)]
        if not piece:
            break
        whole = np.concatenate([_copied(rows) for rows in llm.engine.rows(piece, chunk=CHUNK)])
        single = np.concatenate([_copied(rows) for rows in llm.engine.rows(piece, chunk=1)])
        tally.add(whole, single)
        advance(2 * len(piece))
        left -= len(piece)
    return tally.agreement()


def _copied(rows: Logits) -> NDArray[np.float64]:
    return rows.astype(np.float64)


def _divergences(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return KL(a || b) of each row, in nats."""
    log_a, log_b = _log_softmax(a), _log_softmax(b)
    differences: NDArray[np.float64] = (np.exp(log_a) * (log_a - log_b)).sum(axis=1)
    return differences


def _log_softmax(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    shifted = rows - rows.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


def _divergence(a: LLM, b: LLM, prompt: Sequence[int], sampling: SamplingParams, advance: Advance) -> int | None:
    """Return the first token at which two continuations of a prompt differ, or None."""
    context = min(a.info.context_length, b.info.context_length)
    ids = tuple(prompt[: context - min(CONTINUATION, context // 2)])
    request = Request(ids, sampling, max_tokens=CONTINUATION, reuse=False)
    tokens_a, tokens_b = a.submit(request).completion().tokens, b.submit(request).completion().tokens
    advance(2 * CONTINUATION)
    if tokens_a == tokens_b:
        return None
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(tokens_a, tokens_b, strict=False)))
