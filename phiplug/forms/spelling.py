"""How OpenAI's interfaces write tokens, log-probabilities and usage."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from phiplug.forms.problems import Json
    from phiplug.spi import Tokenizer
    from phiplug.types import TokenLogprob, Usage

LEAST = -9999.0
"""What OpenAI writes where a probability is 0: JSON has no infinity."""


class Spelling:
    """Writes the tokens of one model."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        named = ((tokenizer.encode(text), text) for text in tokenizer.special_tokens.values())
        self._special = {ids[0]: text for ids, text in named if len(ids) == 1}

    def token(self, token: int) -> str:
        """Return a token's text; bytes that are no text are spelt out, and a control token without a name is its id."""
        spelt = self._tokenizer.token_bytes(token)
        if not spelt:
            return self._special.get(token, f"token_id:{token}")
        try:
            return spelt.decode("utf-8")
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in spelt)

    def chat(self, entries: Iterable[TokenLogprob]) -> Json:
        """Return log-probabilities as /v1/chat/completions has them."""
        return {
            "content": [
                {**self._entry(entry), "top_logprobs": [self._entry(other) for other in entry.top]} for entry in entries
            ],
            "refusal": None,
        }

    def _entry(self, entry: TokenLogprob) -> Json:
        return {
            "token": self.token(entry.token),
            "logprob": max(entry.logprob, LEAST),
            "bytes": list(entry.bytes) if entry.bytes else None,
        }

    def legacy(self, entries: Sequence[TokenLogprob], *, first: int | None = None, offset: int = 0) -> Json:
        """Return log-probabilities as /v1/completions has them.

        Args:
            entries: one for each token.
            first: a token before them that has none, as the first one of a prompt.
            offset: how many characters come before.
        """
        tokens = [] if first is None else [self.token(first)]
        numbers: list[float | None] = [] if first is None else [None]
        tops: list[Json | None] = [] if first is None else [None]
        for entry in entries:
            tokens.append(self.token(entry.token))
            numbers.append(max(entry.logprob, LEAST))
            tops.append(self._top(entry))
        offsets = [offset]
        for token in tokens:
            offsets.append(offsets[-1] + len(token))
        return {"tokens": tokens, "token_logprobs": numbers, "top_logprobs": tops, "text_offset": offsets[:-1]}

    def _top(self, entry: TokenLogprob) -> Json:
        """Map texts to numbers, the likeliest first; where two tokens have one text, the likelier one has it."""
        found: Json = {}
        for other in (*entry.top, entry):
            found.setdefault(self.token(other.token), max(other.logprob, LEAST))
        return found


def usage(used: Usage) -> Json:
    """Return token counts as OpenAI's interfaces have them."""
    return {
        "prompt_tokens": used.prompt_tokens,
        "completion_tokens": used.completion_tokens,
        "total_tokens": used.prompt_tokens + used.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": used.cached_tokens},
    }
