"""Says in words how an answer came: how many tokens, how fast, and what ended it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from phiplug.llm import LLM
    from phiplug.types import Timings, Usage


def limit(llm: LLM, usage: Usage) -> str:
    """Say what ended an answer that had not come to its end."""
    full = usage.prompt_tokens + usage.completion_tokens >= llm.info.context_length
    return f"the context of {llm.info.context_length} tokens is full" if full else "--max-tokens"


def rate(per_second: float) -> str:
    """Write tokens per second, with a decimal where there are few."""
    return f"{per_second:.0f}/s" if per_second >= 9.5 else f"{per_second:.1f}/s"


def counted(count: int, things: str, plural: str = "s") -> str:
    """Write how many things there are."""
    return f"{count} {things}" if count == 1 else f"{count} {things}{plural}"


def summary(llm: LLM, usage: Usage, timings: Timings) -> str:
    """Return the statistics of an answer as one line."""
    info = llm.info
    threads = f" {counted(info.threads, 'thread')}" if info.threads else ""
    cached = f" ({usage.cached_tokens} reused)" if usage.cached_tokens else ""
    guesses = f"{counted(usage.guesses_asked, 'guess', 'es')}, {usage.guesses_right} right, {usage.guesses_wrong} wrong"
    return " · ".join(
        [
            f"{counted(usage.prompt_tokens, 'prompt token')}{cached} at {rate(timings.prefill_tps)}",
            counted(usage.completion_tokens, "new token")
            + (f" at {rate(timings.decode_tps)}" if timings.decode_tps else ""),
            f"first text after {timings.ttft_s:.2f} s" if timings.ttft_s else "no text",
            f"{llm.backend} on {info.device}{threads}",
            *([guesses] if usage.guesses_asked else []),
        ]
    )
