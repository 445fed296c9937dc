"""From chunks to answers: the chunks of each choice gathered, and what they cost added up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from phiplug.messages import ToolCallDelta, joined
from phiplug.types import Chunk, Usage

if TYPE_CHECKING:
    from phiplug.types import FinishReason, Timings, TokenLogprob


@dataclass(slots=True)
class Answer:
    """One choice as it grows; when it has ended, `finish_reason`, `usage` and `timings` are there."""

    text: str = ""
    tokens: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    prompt_logprobs: list[TokenLogprob] = field(default_factory=list)
    finish_reason: FinishReason | None = None
    reasoning: str = ""
    calls: tuple[ToolCallDelta, ...] = ()
    usage: Usage = field(default_factory=lambda: Usage(0, 0))
    timings: Timings | None = None

    def add(self, chunk: Chunk) -> None:
        """Append a chunk."""
        self.text += chunk.text
        self.reasoning += chunk.reasoning
        self.calls = joined((*self.calls, *chunk.tool_calls)) if chunk.tool_calls else self.calls
        self.tokens += chunk.tokens
        self.logprobs += chunk.logprobs
        self.prompt_logprobs += chunk.prompt_logprobs
        if chunk.finish_reason is not None:
            self.finish_reason = chunk.finish_reason
            self.usage = chunk.usage or self.usage
            self.timings = chunk.timings


def total_usage(answers: Sequence[Answer], choices: int) -> Usage:
    """Add up what was computed: every prompt once, and the tokens of all its choices."""
    firsts = [answer.usage for answer in answers[::choices]]
    return Usage(
        sum(usage.prompt_tokens for usage in firsts),
        sum(answer.usage.completion_tokens for answer in answers),
        sum(usage.cached_tokens for usage in firsts),
    )
