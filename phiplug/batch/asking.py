"""From a task to the requests that an engine computes, and from their answers to the body that the server would send.

It reads the fields as `phiplug serve` does, by `phiplug.forms`, and computes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from phiplug.batch.seeds import name_of, seed_of
from phiplug.batch.tasks import CHAT
from phiplug.errors import TemplateFailed, UnsupportedParameter
from phiplug.forms import chat, completions
from phiplug.forms.admission import admit
from phiplug.forms.answers import Answer
from phiplug.forms.chat import ChatBody, chat_request
from phiplug.forms.completions import TextBody, check_together, echoed, text_requests
from phiplug.forms.constraints import demand_of
from phiplug.forms.fields import Given
from phiplug.forms.objects import Head
from phiplug.forms.problems import Refused
from phiplug.forms.spelling import Spelling
from phiplug.forms.tools import prompt_options
from phiplug.text.prompt import PromptOptions

if TYPE_CHECKING:
    from phiplug.batch.tasks import Task
    from phiplug.forms.objects import Body
    from phiplug.forms.problems import Json
    from phiplug.spi import ModelInfo, Tokenizer
    from phiplug.text.prompt import PromptEncoder
    from phiplug.types import Request

_RAW = PromptOptions(raw=True)


class Model(Protocol):
    """What is asked: an `LLM`, or a model whose engine is elsewhere."""

    @property
    def backend(self) -> str:
        """The name of its backend."""
        ...

    @property
    def info(self) -> ModelInfo:
        """What it says of itself."""
        ...

    @property
    def prompts(self) -> PromptEncoder:
        """Renders and encodes."""
        ...

    @property
    def tokenizer(self) -> Tokenizer:
        """Spells tokens."""
        ...


@dataclass(frozen=True, slots=True)
class Terms:
    """What holds for every line of a batch.

    Attributes:
        created: when the batch began, in seconds of Unix time; every answer has it.
        seed: of the batch; lines without a seed of their own have one that follows from it.
        max_tokens: for lines that do not say, or None for what the server would take.
        names: what a line may call the model.
        mixed: rows may depend on what computed them and on their neighbours, and each says what computed it.
    """

    created: int = 0
    seed: int = 0
    max_tokens: int | None = None
    names: tuple[str, ...] = ()
    mixed: bool = False


@dataclass(slots=True, eq=False)
class Work:
    """A line whose requests are computed.

    Attributes:
        task: the line.
        requests: one for each prompt.
        choices: how many answers to each.
        form_field: what asks for a form of the answers.
        body: spells the answers.
        answers: as they grow, those of the first prompt first.
        open: how many of them have not ended.
    """

    task: Task
    requests: Sequence[Request]
    choices: int
    form_field: str
    body: Body
    answers: list[Answer] = field(default_factory=list)
    open: int = 0

    def __post_init__(self) -> None:
        self.open = len(self.requests) * self.choices
        self.answers = [Answer() for _ in range(self.open)]


class Asking:
    """Prepares the lines of a batch for one model."""

    def __init__(self, llm: Model, terms: Terms) -> None:
        self._llm = llm
        self._terms = terms
        self._spelling: Spelling | None = None
        self._repeats = not (terms.mixed and llm.info.row_independence == "none")

    def prepare(self, task: Task) -> Work:
        """Return the requests of a task that has no error.

        Raises:
            PhiplugError: a field, or the prompt, is refused.
        """
        body = self._completed(task)
        return self._chat(task, body) if task.url == CHAT else self._text(task, body)

    def _completed(self, task: Task) -> Json:
        """Return the body with what the batch says where the line does not."""
        body = dict(task.body or {})
        if body.get("seed") is None:
            body["seed"] = seed_of(self._terms.seed, task.custom_id, task.line)
        if self._terms.max_tokens and all(body.get(name) is None for name in ("max_tokens", "max_completion_tokens")):
            body["max_tokens"] = self._terms.max_tokens
        return body

    def _checked(self, given: Given) -> Given:
        """Refuse what a batch cannot do."""
        if given.get("stream"):
            raise UnsupportedParameter("stream", "a batch sends whole answers", hint="leave it out")
        self._refuse_others("model", given.get("model"), self._terms.names, "--served-name adds one")
        self._refuse_others("backend", given.get("backend"), (self._llm.backend,), "leave it out")
        return given

    @staticmethod
    def _refuse_others(name: str, value: str | None, known: Sequence[str], hint: str) -> None:
        if value is not None and value not in known:
            message = f"{name}: this batch is computed by {', '.join(known)}, and not by {value[:100]!r}"
            code = "model_not_found" if name == "model" else "invalid_value"
            raise Refused(404 if name == "model" else 400, code, message, param=name, hint=hint)

    def _chat(self, task: Task, body: Json) -> Work:
        given = self._checked(chat.FIELDS.read(body))
        if self._llm.prompts.template is None:
            raise TemplateFailed("this model brings no chat template", hint="use /v1/completions, or --raw")
        ids, markup = self._llm.prompts.prepare(given["messages"], prompt_options(given))
        request = self._admitted(chat_request(given, tuple(ids), markup, self._llm.info))
        choices = given.get("n", 1)
        spelt = ChatBody(self._head("chatcmpl", task), choices, self._speller(request.logprobs))
        return Work(task, (request,), choices, demand_of(given).field, spelt)

    def _text(self, task: Task, body: Json) -> Work:
        given = self._checked(completions.FIELDS.read(body))
        check_together(given)
        prompts = [self._ids(each) for each in given["prompt"]]
        requests = [self._admitted(each) for each in text_requests(given, prompts, self._llm.info)]
        choices, spelling = given.get("n", 1), self._speller(given.get("logprobs"))
        texts = echoed(given, self._llm.tokenizer)
        spelt = TextBody(self._head("cmpl", task), choices, spelling, prompts=tuple(prompts), echoed=texts)
        return Work(task, requests, choices, demand_of(given).field, spelt)

    def _ids(self, prompt: str | tuple[int, ...]) -> tuple[int, ...]:
        return tuple(self._llm.prompts.encode(prompt, _RAW)) if isinstance(prompt, str) else tuple(prompt)

    def _admitted(self, request: Request) -> Request:
        admit(self._llm.info, request)
        return replace(request, repeatable=self._repeats)

    def _head(self, prefix: str, task: Task) -> Head:
        name = name_of(task.custom_id, task.line)
        return Head(f"{prefix}-{name}", self._terms.created, self._terms.names[0], f"phiplug-{self._llm.backend}")

    def _speller(self, logprobs: int | None) -> Spelling | None:
        if logprobs is not None and self._spelling is None:
            self._spelling = Spelling(self._llm.tokenizer)
        return None if logprobs is None else self._spelling
