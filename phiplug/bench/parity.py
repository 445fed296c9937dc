"""Measures how far two loaded models agree on texts: likeliest token, distributions, and the draws of one seed.

Both are given the same ids in the same chunks (teacher forcing), so every position is compared on equal terms. How far
each one differs from itself, between a prefill and decoding one by one, is measured too: that is the noise below which
a difference between the two means nothing. It knows nothing of how the models were loaded or how a report is shown.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files as resource_files
from itertools import takewhile
from typing import TYPE_CHECKING

import numpy as np

from phiplug.bench.agreement import Agreement, Difference, Tally
from phiplug.bench.coupling import allowed
from phiplug.errors import InvalidParameter
from phiplug.llm import PromptOptions
from phiplug.sampling import Sampler
from phiplug.types import Request, SamplingParams

if TYPE_CHECKING:
    from phiplug.llm import LLM

CHUNK = 128  # ids in a pass, the same for both models
NOISE_POSITIONS = 128  # decoding one by one is slow
CONTINUATION = 64  # tokens
CONTINUED_PROMPTS = 4
CONTINUED_WORK = 2 * 2 * CONTINUATION * CONTINUED_PROMPTS  # tokens, at the most
CONTINUATION_SEED = 1
RAW = PromptOptions(raw=True)

DRAWN = tuple(
    SamplingParams(temperature=temperature, top_p=top_p, repeat_penalty=1.0, seed=0)
    for temperature, top_p in ((1.0, 1.0), (0.8, 0.95), (0.7, 0.9))
)
"""The settings at which draws are compared. Penalties are off: they are the core's, and alike on both sides."""

RULED = DRAWN[1:2]
"""The one, phiplug's default, by which it is decided who may be ranked."""

Advance = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Parity:
    """What `compare` found of two models.

    Attributes:
        names: of the two.
        agreement: over the forced positions.
        noise: of each model, its own prefill against decoding one by one; None where that was not reached.
        differences: where the likeliest tokens differ.
        complete: whether nothing was left out.
    """

    names: tuple[str, str]
    agreement: Agreement
    noise: tuple[Agreement | None, Agreement | None]
    differences: tuple[Difference, ...]
    complete: bool


@dataclass(frozen=True, slots=True)
class Continuations:
    """The first token at which two models' continuations differ, for each prompt; None if they do not.

    Attributes:
        greedy: at temperature 0, without penalties.
        seeded: with default settings and one seed.
    """

    greedy: tuple[int | None, ...]
    seeded: tuple[int | None, ...]


def default_prompts() -> list[str]:
    """Return the texts that are compared when the user gives none: prose, code, numbers, several languages."""
    text = resource_files("phiplug").joinpath("data/parity.txt").read_text(encoding="utf-8")
    return split_prompts(text)


def split_prompts(text: str) -> list[str]:
    """Split a file of prompts at its lines of three hyphens; blank ones are left out."""
    return [prompt for piece in text.split("\n---\n") if (prompt := piece.strip())]


def compare(
    a: LLM,
    b: LLM,
    texts: Sequence[str],
    *,
    positions: int = 512,
    settings: Sequence[SamplingParams] = DRAWN,
    advance: Advance = lambda _: None,
) -> Parity:
    """Compare two models of one vocabulary over `positions` ids of `texts`, and each of them with itself.

    `advance` is told how many positions were computed, of `work(positions)` in all. KeyboardInterrupt ends it, and what
    is done stays; before anything is done it is raised.
    """
    prompts = list(_prompts(a, b, texts, positions))
    tally = Tally(settings)
    noise: list[Tally] = [Tally(settings), Tally(settings)]
    complete = False
    try:
        _compare(tally, a, b, prompts, advance)
        for llm, own in zip((a, b), noise, strict=True):
            _compare_with_itself(own, llm, prompts, advance)
        complete = True
    except KeyboardInterrupt:
        if not tally.positions:
            raise
    own_a, own_b = (own.agreement() if own.positions else None for own in noise)
    return Parity((a.backend, b.backend), tally.agreement(), (own_a, own_b), tuple(tally.differences), complete)


def own_noise(
    llm: LLM, texts: Sequence[str], *, positions: int = NOISE_POSITIONS, settings: Sequence[SamplingParams] = RULED
) -> Agreement:
    """Compare a model with itself: a prefill against decoding one by one."""
    tally = Tally(settings)
    _compare_with_itself(tally, llm, list(prompts_of(llm, texts, positions)), lambda _: None)
    return tally.agreement()


def continuations(a: LLM, b: LLM, texts: Sequence[str], *, advance: Advance = lambda _: None) -> Continuations:
    """Continue the first prompts on both models; `advance` is told how many tokens were generated."""
    prompts = list(_prompts(a, b, texts, sum(map(len, texts))))[:CONTINUED_PROMPTS]
    greedy = SamplingParams(temperature=0.0, repeat_penalty=1.0, seed=0)
    seeded = SamplingParams(seed=CONTINUATION_SEED)
    return Continuations(
        tuple(_divergence(a, b, ids, greedy, advance) for ids in prompts),
        tuple(_divergence(a, b, ids, seeded, advance) for ids in prompts),
    )


def draws(llm: LLM, texts: Sequence[str], *, positions: int, seeds: int) -> list[int]:
    """Return the tokens that each seed draws at each of `positions` ids of `texts`, position by position."""
    params = [replace(RULED[0], seed=seed) for seed in range(seeds)]
    found: list[int] = []
    for ids in prompts_of(llm, texts, positions):
        samplers = [Sampler(each, ids[:1]) for each in params]
        for rows in llm.engine.rows(ids, chunk=CHUNK):
            found += [sampler(row) for row in rows for sampler in samplers]
    return found


def _compare(tally: Tally, a: LLM, b: LLM, prompts: Sequence[list[int]], advance: Advance) -> None:
    """Add what two models make of the same ids in the same chunks."""
    for ids in prompts:
        both = zip(a.engine.rows(ids, chunk=CHUNK), b.engine.rows(ids, chunk=CHUNK), strict=True)
        for index, (rows_a, rows_b) in enumerate(both):
            tally.add(rows_a, rows_b, ids, index * CHUNK)
            advance(2 * len(rows_a))


def _compare_with_itself(tally: Tally, llm: LLM, prompts: Sequence[list[int]], advance: Advance) -> None:
    """Add a model's rows of a prefill beside those of decoding one by one."""
    for ids in prompts:
        piece = ids[: min(NOISE_POSITIONS - tally.positions, CHUNK)]
        if not piece:
            break
        whole = np.concatenate([rows.copy() for rows in llm.engine.rows(piece, chunk=CHUNK)])
        for index, rows in enumerate(llm.engine.rows(piece, chunk=1)):
            tally.add(whole[index : index + 1], rows, ids, index)
            advance(2)


def work(positions: int) -> int:
    """Return how many positions `compare` computes at the most, over both models."""
    return 2 * positions + 2 * 2 * min(positions, NOISE_POSITIONS)


def shortcomings(found: Parity, *, min_top1: float = 0.0, max_kl: float = math.inf) -> list[str]:
    """Say in what two models fail to agree; their draws are judged at the first setting, by `coupling.allowed`."""
    said = []
    agreement, drawn = found.agreement, found.agreement.draws[0]
    floors = [(own.draws[0].disagreement, own.draws[0].standard_error) for own in found.noise if own is not None]
    most = allowed(drawn.standard_error, *max(floors, default=(0.0, 0.0)))
    if not drawn.disagreement <= most:
        said.append(f"{drawn.disagreement:.4f} of the draws differ, and their own noise allows {most:.4f}")
    if not agreement.top1 >= min_top1:
        said.append(f"top-1 agreement {agreement.top1:.3f} is below {min_top1:g}")
    if not agreement.kl_mean <= max_kl:
        said.append(f"mean KL {agreement.kl_mean:.4f} is above {max_kl:g}")
    return said


def prompts_of(llm: LLM, texts: Sequence[str], positions: int) -> Iterator[list[int]]:
    """Yield the ids of the texts, as long as the context allows, until there are enough; the last is cut short.

    Raises:
        InvalidParameter: there are none.
    """
    return _prompts(llm, llm, texts, positions)


def _prompts(a: LLM, b: LLM, texts: Sequence[str], positions: int) -> Iterator[list[int]]:
    """Yield the ids of the texts, as long as both contexts allow, until there are enough; the last is cut short."""
    if positions < 1 or not texts:
        raise InvalidParameter("positions" if texts else "texts", "leave nothing to compare")
    longest = min(a.info.context_length, b.info.context_length)
    for text in texts:
        if positions <= 0:
            return
        ids = a.encode(text, RAW)[: min(positions, longest)]
        if a is not b and b.encode(text, RAW)[: len(ids)] != ids:
            raise InvalidParameter("model", f"{a.files.reference} and {b.files.reference} do not have one vocabulary")
        positions -= len(ids)
        yield ids


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
