"""Keeps what an engine makes of fixed texts, so that it can be seen later whether an update of it moved its logits.

Of each position a file has the likeliest tokens with their log-probabilities, which tell how far a row moved, and a
checksum of the whole row, which tells whether it moved at all.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from phiplug.bench.parity import CHUNK, own_noise, prompts_of
from phiplug.bench.workload import hash_of
from phiplug.errors import InvalidParameter

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from phiplug.llm import LLM

KEPT = 64  # tokens of each position
LEAST = 1e-4  # nats: what another order of additions may do
VERSION = 1


@dataclass(frozen=True, slots=True)
class Origin:
    """What a snapshot was made with.

    Attributes:
        backend: its name.
        engine: its version.
        device: where it computed.
        noise: its mean KL divergence between a prefill and decoding one by one, in nats.
        ids_sha256: of the ids of the texts; see `hash_of`.
    """

    backend: str
    engine: str
    device: str
    noise: float
    ids_sha256: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What an engine made of texts.

    Attributes:
        origin: what made it.
        tokens: int32, (positions, KEPT): the likeliest, the first one first.
        logprobs: float32, of the same shape.
        checksums: uint64, (positions,): of the rows' bytes.
    """

    origin: Origin
    tokens: NDArray[np.int32]
    logprobs: NDArray[np.float32]
    checksums: NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Movement:
    """How far an engine moved from what it was.

    Attributes:
        positions: how many were compared.
        changed: how many rows have other bits.
        kl_mean: mean KL divergence of the new from the old, over the old one's likeliest tokens and all others as one.
        most: the largest change of a kept token's log-probability.
        allowed: the divergence up to which it is noise.
    """

    positions: int
    changed: int
    kl_mean: float
    most: float
    allowed: float

    @property
    def is_noise(self) -> bool:
        """Whether it is no more than the engine's own noise."""
        return self.kl_mean <= self.allowed


def take(llm: LLM, texts: Sequence[str], *, positions: int = 512) -> Snapshot:
    """Compute `positions` rows of `texts`, and the engine's own noise."""
    kept = min(KEPT, llm.tokenizer.vocab_size)
    rows = list(_rows(llm, texts, positions))
    tokens = np.stack([np.argsort(-row, kind="stable")[:kept] for row in rows]).astype(np.int32)
    logprobs = np.stack([_logprobs(row)[ids] for row, ids in zip(rows, tokens, strict=True)]).astype(np.float32)
    origin = Origin(
        llm.backend, llm.info.version, llm.info.device, own_noise(llm, texts).kl_mean, _hash_of(llm, texts, positions)
    )
    return Snapshot(origin, tokens, logprobs, np.array([_checksum(row) for row in rows], np.uint64))


def movement(old: Snapshot, llm: LLM, texts: Sequence[str]) -> Movement:
    """Compare an engine of now with what one was.

    Raises:
        InvalidParameter: the snapshot is of other ids: of another tokenizer, or of other texts.
    """
    positions = len(old.checksums)
    if _hash_of(llm, texts, positions) != old.origin.ids_sha256:
        raise InvalidParameter("against", "is of other ids: another model, or other prompts")
    divergences, most, changed = [], 0.0, 0
    for index, row in enumerate(_rows(llm, texts, positions)):
        changed += _checksum(row) != int(old.checksums[index])
        before, after = old.logprobs[index].astype(np.float64), _logprobs(row)[old.tokens[index]]
        divergences.append(_divergence(before, after))
        most = max(most, float(np.abs(before - after).max()))
    return Movement(positions, changed, float(np.mean(divergences)), most, max(LEAST, old.origin.noise))


def save(found: Snapshot, path: Path) -> None:
    """Write a snapshot as a compressed file of NumPy arrays.

    Raises:
        InvalidParameter: the file cannot be written.
    """
    about = json.dumps({"version": VERSION, **asdict(found.origin)})
    try:
        with path.open("wb") as file:
            np.savez_compressed(
                file, about=about, tokens=found.tokens, logprobs=found.logprobs, checksums=found.checksums
            )
    except OSError as error:
        raise InvalidParameter("save", f"{path} cannot be written: {error.strerror}") from None


def load(path: Path) -> Snapshot:
    """Read a snapshot.

    Raises:
        InvalidParameter: the file cannot be read, or is none.
    """
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            about = json.loads(str(file["about"]))
            if about.pop("version") != VERSION:
                raise InvalidParameter("against", f"{path} was written by another version of phiplug")
            return Snapshot(Origin(**about), file["tokens"], file["logprobs"], file["checksums"])
    except OSError as error:
        raise InvalidParameter("against", f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, LookupError, TypeError, EOFError, zipfile.BadZipFile):
        raise InvalidParameter("against", f"{path} was not written by `phiplug parity --save`") from None


def _rows(llm: LLM, texts: Sequence[str], positions: int) -> Iterator[NDArray[np.float32]]:
    for ids in prompts_of(llm, texts, positions):
        for rows in llm.engine.rows(ids, chunk=CHUNK):
            yield from rows.copy()


def _hash_of(llm: LLM, texts: Sequence[str], positions: int) -> str:
    ids = [token for each in prompts_of(llm, texts, positions) for token in each]
    return hash_of(ids)


def _checksum(row: NDArray[np.float32]) -> int:
    return int.from_bytes(hashlib.sha256(row.tobytes()).digest()[:8], "little")


def _logprobs(row: NDArray[np.float32]) -> NDArray[np.float64]:
    shifted = row.astype(np.float64) - float(row.max())
    return np.asarray(shifted - np.log(np.exp(shifted).sum()))


def _divergence(before: NDArray[np.float64], after: NDArray[np.float64]) -> float:
    """Return KL(before || after) in nats, all tokens that were not kept taken as one."""
    p, q = (np.append(np.exp(side), max(1e-12, 1 - np.exp(side).sum())) for side in (before, after))
    return max(0.0, float((p * np.log(p / q)).sum()))
