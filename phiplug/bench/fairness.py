"""Says why two rows may not be ranked beside one another, and what disturbed a run.

A row that may not be ranked is still shown: the reasons go with it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from phiplug.bench.coupling import allowed
from phiplug.bench.figures import figure
from phiplug.bench.types import SEEDS

if TYPE_CHECKING:
    from phiplug.bench.types import ModelIdentity, Row, Run

BITS = 0.01  # formats whose bits per weight differ by a larger share are not the same weights
SPREAD = 0.05  # the interquartile range of decoding, as a share of its median, above which a machine is called noisy
OTHERS = 0.1  # cores


@dataclass(frozen=True, slots=True)
class Entry:
    """A row and the run that it belongs to."""

    run: Run
    row: Row

    @property
    def model(self) -> ModelIdentity:
        """The weights that it had."""
        return self.run.model_of(self.row)


def reasons(entry: Entry, reference: Entry) -> list[str]:
    """Say why an entry cannot be ranked beside the reference; nothing where it can."""
    if entry.row.error:
        return [entry.row.error]
    if not entry.row.samples:
        return ["no round was finished"]
    found = [*_work(entry, reference), *_weights(entry.model, reference.model)]
    return found or _parity(entry, reference)


def _work(entry: Entry, reference: Entry) -> Iterator[str]:
    if (
        entry.row.loaded
        and reference.row.loaded
        and entry.row.loaded.prompt_sha256 != reference.row.loaded.prompt_sha256
    ):
        yield f"other prompt ids: {entry.row.loaded.prompt_sha256[:12]}, not {reference.row.loaded.prompt_sha256[:12]}"
    mine, theirs = entry.run.workload, reference.run.workload
    if mine.gen_tokens != theirs.gen_tokens:
        yield f"{mine.gen_tokens} generated tokens, not {theirs.gen_tokens}"
    if mine.depth != theirs.depth:
        yield f"{mine.depth} tokens before the prompt, not {theirs.depth}"


def _weights(mine: ModelIdentity, theirs: ModelIdentity) -> Iterator[str]:
    """Say why two files cannot be the same weights in two formats; whether they are, their draws decide."""
    if mine.sha256 == theirs.sha256:
        return
    if mine.format == theirs.format:
        yield f"another model file: SHA-256 {mine.sha256[:12]}, not {theirs.sha256[:12]}"
    elif mine.shape and theirs.shape and mine.shape != theirs.shape:
        yield f"another model: {mine.shape}, not {theirs.shape}"
    elif mine.bits_per_weight is None or theirs.bits_per_weight is None:
        yield f"another format, {mine.format}, whose bits per weight are not known"
    elif abs(mine.bits_per_weight / theirs.bits_per_weight - 1) > BITS:
        yield f"{mine.bits_per_weight:.2f} bits per weight, not {theirs.bits_per_weight:.2f}"


def _parity(entry: Entry, reference: Entry) -> list[str]:
    """Judge by the draws of both on the same forced positions."""
    same_backend = entry.row.contender.backend == reference.row.contender.backend
    if same_backend and entry.model.sha256 == reference.model.sha256:
        return []
    found = disagreement(entry.row, reference.row)
    if found is None:
        return ["its draws were not compared"]
    if found.share <= found.allowed:
        return []
    return [f"{found.share:.1%} of its draws differ, and {found.allowed:.1%} is allowed"]


def kinship(mine: ModelIdentity, theirs: ModelIdentity) -> str:
    """Say what the headers of two files have in common; the same weights would also draw alike."""
    if mine.sha256 == theirs.sha256:
        return "the same file"
    said = [f"{_described(mine)} beside {_described(theirs)}"]
    if mine.shape and theirs.shape:
        said.append(f"both have {mine.shape}" if mine.shape == theirs.shape else f"{mine.shape}, not {theirs.shape}")
    else:
        said.append("whether their shapes are alike is not known")
    return ": ".join(("other files", "; ".join(said)))


def _described(model: ModelIdentity) -> str:
    bits = f", {model.bits_per_weight:.2f} bits per weight" if model.bits_per_weight else ""
    name = f", called {model.name}" if model.name else ""
    return f"{model.reference} ({model.format}{bits}{name}, SHA-256 {model.sha256[:12]})"


@dataclass(frozen=True, slots=True)
class Disagreement:
    """How often two backends drew different tokens with one seed, and how often they may.

    Attributes:
        share: of the draws, over `positions` forced positions.
        standard_error: of `share`, the positions taken as independent.
        floor: the larger of the shares at which each differs from itself, between a prefill and decoding.
        floor_error: its standard error.
    """

    positions: int
    share: float
    standard_error: float
    floor: float
    floor_error: float

    @property
    def allowed(self) -> float:
        """The largest share at which two rows are ranked."""
        return allowed(self.standard_error, self.floor, self.floor_error)


def disagreement(a: Row, b: Row) -> Disagreement | None:
    """Compare the draws of two rows, or return None where either has none, or they are of other positions."""
    if not (a.loaded and b.loaded and a.loaded.draws) or len(a.loaded.draws) != len(b.loaded.draws):
        return None
    floors = [(side.floor, side.floor_error) for side in (a.loaded, b.loaded) if side.floor is not None]
    differ = np.array(a.loaded.draws) != np.array(b.loaded.draws)
    shares = differ.reshape(-1, SEEDS).mean(axis=1)
    error = float(shares.std(ddof=1)) / math.sqrt(len(shares)) if len(shares) > 1 else math.inf
    return Disagreement(len(shares), float(shares.mean()), error, *max(floors, default=(0.0, 0.0)))


def notes(run: Run) -> list[str]:
    """Say what may have disturbed a run."""
    found = []
    if not run.complete:
        done = sum(len(row.samples) for row in run.rows)
        found.append(f"interrupted: {done} of {run.rounds * len(run.rows)} rounds are done")
    for row in run.rows:
        found += _unsteady(row, run)
    if (run.others_cpu or 0.0) > OTHERS:
        cores = f"{run.others_cpu:.1f} of {run.hardware.logical_cores} cores"
        found.append(f"others, processes or guests of one host, kept {cores} busy")
    if run.throttled:
        found.append(f"heat slowed the processor down {run.throttled} times")
    return found


def _unsteady(row: Row, run: Run) -> Iterator[str]:
    found = figure("decode_tps", row, run.workload)
    if found and found.spread > SPREAD:
        yield f"{row.contender.name}: half of the rounds spread over {found.spread:.0%} of the median of decoding"
    if len({sample.output for sample in row.samples}) > 1:
        yield f"{row.contender.name}: the rounds did not give the same tokens"
