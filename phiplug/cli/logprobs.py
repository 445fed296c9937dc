"""Shows the log-probabilities of an answer: a table on stderr, and their form in JSON."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from phiplug.types import TokenLogprob


def show_logprobs(entries: Sequence[TokenLogprob]) -> None:
    """Print a row for each token: its probability, and the likeliest at its place where they were asked for."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table("token", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("probability", justify="right")
    if entries[0].top:
        table.add_column("likeliest")
    for entry in entries:
        likeliest = ", ".join(f"{_spelt(each)} {_percent(each)}" for each in entry.top)
        table.add_row(_spelt(entry), _percent(entry), *([likeliest] if entry.top else []))
    Console(stderr=True, highlight=False, markup=False).print(table)


def logprob_as_json(entry: TokenLogprob) -> dict[str, Any]:  # Any: what JSON holds
    """Return an entry with its text, and as bytes what may be a part of a character; null for an impossible token."""
    return {
        "token": entry.token,
        "text": entry.bytes.decode("utf-8", "replace"),
        "bytes": list(entry.bytes),
        "logprob": entry.logprob if math.isfinite(entry.logprob) else None,
        **({"top": list(map(logprob_as_json, entry.top))} if entry.top else {}),
    }


def _spelt(entry: TokenLogprob) -> str:
    """Return a token as Python writes a text or bytes, or its id where it stands for none."""
    if not entry.bytes:
        return f"id {entry.token}"
    try:
        return repr(entry.bytes.decode())
    except UnicodeDecodeError:
        return repr(entry.bytes)


def _percent(entry: TokenLogprob) -> str:
    return f"{math.exp(entry.logprob):.2%}"
