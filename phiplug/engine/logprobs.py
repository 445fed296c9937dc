"""Log-probabilities of tokens, from untouched logits: a log-softmax in float64.

They do not know how a token was drawn: temperature, penalties and filters change what is drawn and not these numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from phiplug.errors import NonFiniteLogits
from phiplug.types import TokenLogprob

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from phiplug.spi import Logits, Tokenizer


def log_normalizers(rows: Logits) -> NDArray[np.float64]:
    """Return log(sum(exp(row))) of each row, float64 (n,), for rows of float32 (n, V)."""
    with np.errstate(all="ignore"):  # a row that is not finite is refused where it is used
        largest = rows.max(axis=1, keepdims=True).astype(np.float64)
        normalizers: NDArray[np.float64] = largest[:, 0] + np.log(np.exp(rows - largest).sum(axis=1))
    return normalizers


def token_logprob(row: Logits, normalizer: float, token: int, top: int, tokenizer: Tokenizer) -> TokenLogprob:
    """Return the log-probability of a token under one row, float32 (V,), beside those of the `top` likeliest."""
    return TokenLogprob(
        token,
        tokenizer.token_bytes(token),
        float(row[token]) - normalizer,
        tuple(
            TokenLogprob(other, tokenizer.token_bytes(other), float(row[other]) - normalizer)
            for other in likeliest(row, top)
        ),
    )


def prompt_logprobs(
    rows: Logits, normalizers: NDArray[np.float64], targets: Sequence[int], top: int, tokenizer: Tokenizer
) -> tuple[TokenLogprob, ...]:
    """Return the log-probability of each target under the row before it: float32 (n, V) for n targets.

    Raises:
        NonFiniteLogits: a row has NaN, +inf, or nothing but -inf.
    """
    if not np.isfinite(normalizers[: len(targets)]).all():
        raise NonFiniteLogits("the logits are not finite, so no token has a probability")
    return tuple(
        token_logprob(row, float(normalizer), target, top, tokenizer)
        for row, normalizer, target in zip(rows, normalizers[: len(targets)], targets, strict=True)
    )


def likeliest(row: Logits, count: int) -> list[int]:
    """Return the ids of the `count` largest logits, the largest first, ties by the lowest id."""
    if count == 0:
        return []
    if count == 1:
        return [int(row.argmax())]
    count = min(count, len(row))
    edge = np.partition(row, len(row) - count)[len(row) - count]
    ids = np.flatnonzero(row >= edge)
    return [int(token) for token in ids[np.argsort(-row[ids], kind="stable")][:count]]
