"""Makes one self-contained HTML page of how far two engines agree, with the text around each position that differs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from phiplug.bench.html import rendered
from phiplug.printable import printable

if TYPE_CHECKING:
    from phiplug.bench.agreement import Agreement, Candidate, Difference
    from phiplug.bench.parity import Parity
    from phiplug.llm import LLM

SHOWN = 200  # characters of the text before a position
MOST = 200  # positions on a page


def page(found: Parity, llm: LLM, files: str | None = None) -> str:
    """Return the page as HTML with its style sheet inside, the tokens spelled by one of the models.

    `files` says what two files have in common, where each model had its own.
    """
    return rendered(
        "parity.html",
        {
            "names": found.names,
            "files": files,
            "compared": _compared(found),
            "differences": [_shown(each, llm) for each in found.differences[:MOST]],
            "total": len(found.differences),
            "positions": found.agreement.positions,
        },
    )


def _compared(found: Parity) -> list[tuple[str, Agreement]]:
    own = zip(found.names, found.noise, strict=True)
    return [(" and ".join(found.names), found.agreement)] + [
        (f"{name} and itself", noise) for name, noise in own if noise is not None
    ]


def _shown(difference: Difference, llm: LLM) -> dict[str, object]:
    text = llm.decode(difference.before)
    return {
        "at": len(difference.before),
        "before": ("..." if len(text) > SHOWN else "") + printable(text[-SHOWN:]),
        "pairs": list(zip(*([_spelt(candidate, llm) for candidate in tops] for tops in difference.tops), strict=True)),
    }


def _spelt(candidate: Candidate, llm: LLM) -> tuple[str, str]:
    text = llm.tokenizer.token_bytes(candidate.token).decode("utf-8", "replace") or f"id {candidate.token}"
    return printable(text), f"{candidate.share:.1%}"
