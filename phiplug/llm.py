"""A loaded model that speaks text: messages -> ids -> the engine -> chunks.

It holds the prompt's side of the rules in docs/sampling.md: template, beginning of sequence, control tokens in a user's
text. It knows nothing of how files and backends are found; `phiplug.load` puts it together.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from phiplug import checks
from phiplug.dialects import RULES
from phiplug.errors import InvalidParameter, PhiplugWarning, TemplateFailed
from phiplug.text.tokenizer import with_bos
from phiplug.types import Chunk, Completion, Message, MessageLike, Request, Reuse, SamplingParams, Timings, Usage

if TYPE_CHECKING:
    from phiplug.engine import Engine
    from phiplug.spi import ModelFiles, ModelInfo, Tokenizer
    from phiplug.text.template import ChatTemplate

Observer: TypeAlias = Callable[[Request, Usage, Timings], None]


@dataclass(frozen=True, slots=True)
class PromptOptions:
    """How a prompt becomes ids.

    Attributes:
        raw: the text is the prompt; no chat template.
        strict_content: refuse control tokens in a message, rather than warn and parse them as the reference does.
    """

    raw: bool = False
    strict_content: bool = False


class LLM:
    """A model, ready to answer. Use it as a context manager, or `close` it.

    May be called from several threads: calls take turns.

    Attributes:
        files: where the model came from.
        backend: the name of the backend that computes it.
        engine: what drives it, token by token.
        load_s: how long loading took, in seconds, where `load` did it.
    """

    def __init__(
        self,
        engine: Engine,
        template: ChatTemplate | None,
        *,
        files: ModelFiles,
        backend: str,
        finished: Observer | None = None,
    ) -> None:
        self.files = files
        self.backend = backend
        self.load_s = 0.0
        self.engine = engine
        self._template = template
        self._finished = finished

    @property
    def info(self) -> ModelInfo:
        """What the loaded model says about itself."""
        return self.engine.model.info

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer, the same on every backend."""
        return self.engine.tokenizer

    def stream(
        self,
        prompt: str | Sequence[MessageLike],
        *,
        max_tokens: int = 512,
        temperature: float | None = None,
        top_p: float | None = None,
        top_k: int | None = None,
        min_p: float | None = None,
        repeat_penalty: float | None = None,
        repeat_last_n: int | None = None,
        seed: int | None = None,
        stop: str | Sequence[str] = (),
        raw: bool = False,
        params: SamplingParams | None = None,
    ) -> Stream:
        """Answer, a chunk at a time; closing the iterator cancels.

        Args:
            prompt: one user message, or a conversation (see `Message.of`); with `raw`, the text to continue.
            max_tokens: at most so many tokens.
            temperature: this and the next six override what `params` says; see `SamplingParams`.
            top_p: the nucleus.
            top_k: how many tokens survive.
            min_p: the least probability, relative to the largest.
            repeat_penalty: against repetition.
            repeat_last_n: its window.
            seed: the same seed gives the same text; random if None.
            stop: text that ends the answer and is not part of it.
            raw: no chat template; `prompt` must be a str.
            params: the other parameters, and the defaults of these.

        Raises:
            RequestError: at once, before anything is computed.
            GenerationError: while reading; what was yielded before stands.
        """
        given: dict[str, Any] = {  # Any: replace() checks no types, SamplingParams does
            "temperature": temperature,
            "top_p": top_p,
            "top_k": top_k,
            "min_p": min_p,
            "repeat_penalty": repeat_penalty,
            "repeat_last_n": repeat_last_n,
            "seed": seed,
        }
        sampling = replace(params or SamplingParams(), **{k: v for k, v in given.items() if v is not None})
        return self.submit(self.request(prompt, sampling, PromptOptions(raw), max_tokens=max_tokens, stop=stop))

    def generate(
        self,
        prompt: str | Sequence[MessageLike],
        *,
        max_tokens: int = 512,
        temperature: float | None = None,
        top_p: float | None = None,
        top_k: int | None = None,
        min_p: float | None = None,
        repeat_penalty: float | None = None,
        repeat_last_n: int | None = None,
        seed: int | None = None,
        stop: str | Sequence[str] = (),
        raw: bool = False,
        params: SamplingParams | None = None,
    ) -> Completion:
        """Answer, whole. Arguments and errors are those of `stream`."""
        return self.stream(
            prompt,
            max_tokens=max_tokens,
            temperature=temperature,
            top_p=top_p,
            top_k=top_k,
            min_p=min_p,
            repeat_penalty=repeat_penalty,
            repeat_last_n=repeat_last_n,
            seed=seed,
            stop=stop,
            raw=raw,
            params=params,
        ).completion()

    def request(
        self,
        prompt: str | Sequence[MessageLike],
        sampling: SamplingParams,
        options: PromptOptions = PromptOptions(),
        *,
        max_tokens: int = 512,
        stop: str | Sequence[str] = (),
        reuse: Reuse | None = None,
    ) -> Request:
        """Turn a prompt into ids, and settle the seed.

        Unless `reuse` says otherwise, a request that can be repeated, because it has a seed or is greedy, reuses of an
        earlier prompt only what is bit for bit the same as computing it again; so, with a fixed number of threads,
        it gives the same answer whatever was asked before it.
        """
        repeatable = sampling.seed is not None or RULES[sampling.dialect].is_greedy(sampling.temperature)
        return Request(
            prompt_ids=tuple(self.encode(prompt, options)),
            sampling=sampling.seeded(),
            max_tokens=max_tokens,
            stop=checks.stops(stop),
            reuse=reuse or ("chunks" if repeatable else "all"),
            may_autotune=not repeatable,
            templated=not options.raw,
        )

    def submit(self, request: Request) -> Stream:
        """Start on a request; nothing is computed before the first chunk is asked for.

        Raises:
            PromptTooLong: the context does not hold the prompt and one token more.
        """
        return Stream(request, self._observed(request, self.engine.stream(request)))

    def encode(self, prompt: str | Sequence[MessageLike], options: PromptOptions = PromptOptions()) -> list[int]:
        """Turn a prompt into the ids that the model is given.

        Raises:
            InvalidParameter: the prompt is empty, or no text, or has control tokens where they are refused.
            TemplateFailed: the model has no chat template, or it refused the messages.
        """
        text = self.render(prompt, options)
        return with_bos(self.tokenizer.encode(text), self.tokenizer)

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of token ids; control tokens have none, and what is no UTF-8 becomes U+FFFD.

        Raises:
            InvalidParameter: an id is not of the vocabulary.
        """
        for token in checks.ids("ids", ids):
            checks.integer("ids", token, low=0, high=self.tokenizer.vocab_size - 1)
        return b"".join(map(self.tokenizer.token_bytes, map(int, ids))).decode("utf-8", "replace")

    def render(self, prompt: str | Sequence[MessageLike], options: PromptOptions = PromptOptions()) -> str:
        """Turn a prompt into the text that is tokenized; errors are those of `encode`."""
        if isinstance(prompt, str):
            checks.text("prompt", prompt)
        if not prompt:
            raise InvalidParameter("prompt", "is empty")
        if options.raw:
            if not isinstance(prompt, str):
                raise InvalidParameter("raw", "takes one text, and this is a conversation")
            return prompt
        messages = (Message("user", prompt),) if isinstance(prompt, str) else _messages(prompt)
        self._check_control_tokens(messages, strict=options.strict_content)
        return self._templated(messages)

    def close(self) -> None:
        """Give back the model's memory. May be called twice."""
        self.engine.close()

    def __repr__(self) -> str:
        return f"<LLM {self.files.reference} on {self.backend}, {self.info.device}>"

    def __enter__(self) -> LLM:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _observed(self, request: Request, chunks: Generator[Chunk]) -> Generator[Chunk]:
        """Pass the chunks on, and tell the observer of a request that ran to its end."""
        with contextlib.closing(chunks):
            for chunk in chunks:
                if self._finished and chunk.usage and chunk.timings:
                    self._finished(request, chunk.usage, chunk.timings)
                yield chunk

    def _templated(self, messages: Sequence[Message]) -> str:
        if self._template is None:
            raise TemplateFailed(
                f"{self.files.reference} brings no chat template", hint="give one with `chat_template`, or use `raw`"
            )
        text = self._template.render(messages, special_tokens=self.tokenizer.special_tokens)
        for message in self._template.dropped(messages, text):
            _warn(f"the chat template of {self.files.reference} drops the {message.role} message")
        return text

    def _check_control_tokens(self, messages: Sequence[Message], *, strict: bool) -> None:
        for message in messages:
            found = self.tokenizer.control_tokens_in(message.content)
            if found and strict:
                raise InvalidParameter("content", f"the {message.role} message holds the control token {found[0]!r}")
            if found:
                _warn(f"the {message.role} message holds the control token {found[0]!r}; `strict_content` refuses it")


def _messages(prompt: object) -> tuple[Message, ...]:
    if isinstance(prompt, Sequence) and not isinstance(prompt, str | bytes):
        return tuple(map(Message.of, prompt))
    hint = "put one message into a list" if isinstance(prompt, Message | Mapping) else None
    raise InvalidParameter("prompt", f"{type(prompt).__name__} is neither a text nor a list of messages", hint=hint)


class Stream:
    """An answer as it comes: an iterator of chunks that knows its request. Leaving its `with` block cancels it.

    Attributes:
        request: what was asked, with the prompt's ids and the seed in force.
    """

    def __init__(self, request: Request, chunks: Generator[Chunk]) -> None:
        self.request = request
        self._chunks = chunks
        self._read: list[Chunk] = []

    def __repr__(self) -> str:
        return f"<Stream of {len(self.request.prompt_ids)} prompt tokens, {len(self._read)} chunks read>"

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Chunk]:
        return self

    def __next__(self) -> Chunk:
        self._read.append(next(self._chunks))
        return self._read[-1]

    def close(self) -> None:
        """Cancel; the model is free for the next stream."""
        self._chunks.close()

    def completion(self) -> Completion:
        """Read to the end and return the whole answer, with what was read before.

        Raises:
            RequestError: the stream was closed, or failed, before its end.
        """
        for _ in self:
            pass
        return Completion.of(self.request, self._read)


def _warn(text: str) -> None:
    warnings.warn(text, PhiplugWarning, stacklevel=2)
