"""What /v1/completions takes and gives: OpenAI's form of texts that go on, and lm-evaluation-harness's of scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from phiplug import checks
from phiplug.errors import InvalidParameter
from phiplug.forms.constraints import FORMS
from phiplug.forms.fields import Given, Table, accepted, array, flag, honoured, integer
from phiplug.forms.objects import Body
from phiplug.forms.sampling import MODEL, OPENAI, STREAM, STREAM_OPTIONS, TRAVELLING, Wanted, request_of
from phiplug.types import MAX_LOGPROBS

if TYPE_CHECKING:
    from phiplug.forms.answers import Answer
    from phiplug.forms.problems import Json
    from phiplug.spi import ModelInfo, Tokenizer
    from phiplug.types import Request

MAX_PROMPTS = 2048
DEFAULT_TOKENS = 16  # what OpenAI generates where nothing is said

Prompt = str | tuple[int, ...]


def prompts(path: str, value: Any) -> tuple[Prompt, ...]:  # Any: what JSON holds
    """Check for a text, a list of texts, ids, or a list of lists of ids."""
    if isinstance(value, str):
        return (_prompt(path, value),)
    listed = array(path, value)
    if listed and all(isinstance(each, int) for each in listed):
        return (_prompt(path, listed),)
    if not 0 < len(listed) <= MAX_PROMPTS:
        raise InvalidParameter(path, f"{len(listed)} prompts are outside [1, {MAX_PROMPTS}]")
    return tuple(_prompt(f"{path}[{index}]", each) for index, each in enumerate(listed))


def _prompt(path: str, value: Any) -> Prompt:  # Any: as above
    found = checks.text(path, value) if isinstance(value, str) else checks.ids(path, value)
    if not found:
        raise InvalidParameter(path, "is empty")
    return found


FIELDS = Table(
    honoured("prompt", "a text, ids, or a list of texts or of lists of ids", prompts, required=True),
    *MODEL,
    honoured(
        "max_tokens",
        f"an integer from 0, {DEFAULT_TOKENS} if it is left out; 0 needs `echo` and `logprobs`",
        integer(0),
    ),
    *OPENAI,
    *FORMS,
    honoured("echo", "true repeats the prompt before the answer", flag),
    honoured(
        "logprobs",
        f"0 to {MAX_LOGPROBS}; with `echo` of the prompt too, and then not streamed",
        integer(0, MAX_LOGPROBS),
    ),
    honoured("best_of", "equal to `n`", integer(1, 128)),
    STREAM,
    STREAM_OPTIONS,
    *TRAVELLING,
    accepted("suffix", ""),
    accepted("store", False),
    accepted("service_tier", "auto", "default"),
)


def text_requests(given: Given, prompt_ids: Sequence[tuple[int, ...]], info: ModelInfo) -> list[Request]:
    """Make the requests of texts that have these ids.

    Raises:
        InvalidParameter: the fields do not go together.
    """
    return [request_of(given, ids, info, _wanted(given, ids)) for ids in prompt_ids]


def check_together(given: Given) -> None:
    """Refuse fields that do not go together.

    Raises:
        InvalidParameter: it names the field that is to blame.
    """
    if given.get("best_of", given.get("n", 1)) != given.get("n", 1):
        raise InvalidParameter("best_of", f"is not n, which is {given.get('n', 1)}", hint="leave it out")
    scores = given.get("echo") and given.get("logprobs") is not None
    if given.get("max_tokens") == 0 and not scores:
        raise InvalidParameter("max_tokens", "0 needs echo and logprobs")
    if scores and given.get("stream"):
        raise InvalidParameter("stream", "log-probabilities of a prompt are not streamed", hint="leave one of them out")


def _wanted(given: Given, ids: tuple[int, ...]) -> Wanted:
    """Say what to compute for one prompt; the first of its tokens follows nothing, so it has no probability."""
    scores = bool(given.get("echo")) and given.get("logprobs") is not None and len(ids) > 1
    least = 0 if scores else 1
    return Wanted(
        max_tokens=max(given.get("max_tokens", DEFAULT_TOKENS), least),
        logprobs=given.get("logprobs"),
        score_from=1 if scores else None,
    )


def echoed(given: Given, tokenizer: Tokenizer) -> tuple[str | None, ...]:
    """Return the texts of the prompts, or None for each where they are not repeated.

    Raises:
        InvalidParameter: an id of a prompt is not of the vocabulary.
    """
    return tuple(_text(tokenizer, each) if given.get("echo") else None for each in given["prompt"])


def _text(tokenizer: Tokenizer, prompt: Prompt) -> str:
    if isinstance(prompt, str):
        return prompt
    for token in prompt:
        checks.integer("prompt", token, low=0, high=tokenizer.vocab_size - 1)
    return b"".join(map(tokenizer.token_bytes, prompt)).decode("utf-8", "replace")


@dataclass(frozen=True, slots=True)
class TextBody(Body):
    """One answer of /v1/completions.

    Attributes:
        prompts: their ids.
        echoed: their texts, or None where they are not repeated.
    """

    KIND = "text_completion"

    prompts: tuple[tuple[int, ...], ...]
    echoed: tuple[str | None, ...]

    def choice(self, index: int, answers: Sequence[Answer]) -> Json:
        """Return the object of the answer number `index`."""
        answer = answers[index]
        return {
            "index": index,
            "text": (self.echo(index) or "") + answer.text,
            "logprobs": self._logprobs(index, answer, answers[index - index % self.choices]),
            "finish_reason": answer.finish_reason,
        }

    def echo(self, index: int) -> str | None:
        """Return what comes before the answer number `index`."""
        return self.echoed[index // self.choices]

    def _logprobs(self, index: int, answer: Answer, first: Answer) -> Json | None:
        """Write those of the answer, after those of the prompt, which the first of its choices has."""
        if self.spelling is None:
            return None
        if self.echo(index) is None:
            return self.spelling.legacy(answer.logprobs)
        return self.spelling.legacy(
            [*first.prompt_logprobs, *answer.logprobs], first=self.prompts[index // self.choices][0]
        )
