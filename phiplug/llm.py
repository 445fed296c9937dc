"""A loaded model that speaks text: it encodes prompts, submits requests, and returns streams. It finds no files."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Unpack

from phiplug import checks
from phiplug.engine import Stream, merged
from phiplug.engine.scores import Score, score_continuations, score_text
from phiplug.messages import ToolLike
from phiplug.options import StreamOptions, prompt_options_of, sampling_of
from phiplug.text.prompt import PromptEncoder, PromptOptions
from phiplug.types import Chunk, Completion, Constraint, LogitsProcessor, MessageLike, Request, SamplingParams

if TYPE_CHECKING:
    from phiplug.engine import Engine
    from phiplug.engine.stream import Observer
    from phiplug.spi import ModelFiles, ModelInfo, Tokenizer
    from phiplug.text.template import ChatTemplate

__all__ = ["LLM", "PromptOptions", "Score", "Stream", "StreamOptions"]

_DEFAULT = PromptOptions()


class LLM:
    """A model, ready to answer. Use it as a context manager, or `close` it.

    May be called from several threads and by several streams at once; `slots` of them are computed side by side.

    Attributes:
        files: where the model came from.
        backend: the name of the backend that computes it.
        engine: what drives it, token by token.
        prompts: renders and encodes prompts.
        finished: is told of each answer that ran to its end, or None.
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
        self.prompts = PromptEncoder(template, engine.tokenizer, files.reference)
        self.finished = finished

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
        variables: Mapping[str, object] = MappingProxyType({}),
        tools: Sequence[ToolLike] = (),
        tool_choice: str = "auto",
        parallel_tool_calls: bool = True,
        logprobs: int | None = None,
        constraint: Constraint | None = None,
        logits_processors: LogitsProcessor | Sequence[LogitsProcessor] = (),
        params: SamplingParams | None = None,
    ) -> Stream:
        """Answer, a chunk at a time; closing the iterator cancels.

        Args:
            prompt: one user message, or a conversation (see `Message.of`); with `raw`, the text to continue.
            max_tokens: at most so many tokens.
            temperature: this and the next six override what `params` says; see `SamplingParams`.
            top_p: the probability mass of the likeliest tokens that may be drawn.
            top_k: how many of the likeliest tokens may be drawn.
            min_p: the least probability, relative to the largest.
            repeat_penalty: against repetition.
            repeat_last_n: how many of the last tokens it looks at.
            seed: the same seed gives the same text; random if None.
            stop: text that ends the answer and is not part of it.
            raw: no chat template; `prompt` must be a str.
            variables: what the chat template is given beside the messages; see `PromptOptions`.
            tools: what the answer may call: `Tool`, or OpenAI's form. phiplug calls nothing itself.
            tool_choice: "auto", "none", "required" or the name of a tool; see `PromptOptions`.
            parallel_tool_calls: the answer may have several calls.
            logprobs: give each token's log-probability, and those of so many of the likeliest beside it, at most 20.
            constraint: the form that the answer must have: a JSON schema, a grammar, ...
            logits_processors: functions of (ids, logits) that change the logits; see `LogitsProcessor`.
            params: the other parameters, and the defaults of these.

        Raises:
            RequestError: at once, before anything is computed.
            GenerationError: while reading; what was yielded before stands.
        """
        options = StreamOptions(
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
            variables=variables,
            tools=tools,
            tool_choice=tool_choice,
            parallel_tool_calls=parallel_tool_calls,
            logprobs=logprobs,
            constraint=constraint,
            logits_processors=logits_processors,
            params=params,
        )
        return self.submit(self._asked(prompt, options))

    def generate(self, prompt: str | Sequence[MessageLike], **options: Unpack[StreamOptions]) -> Completion:
        """Answer, whole. Options and errors are those of `stream`."""
        return self.submit(self._asked(prompt, options)).completion()

    def choices(
        self, prompt: str | Sequence[MessageLike], n: int, **options: Unpack[StreamOptions]
    ) -> Generator[tuple[int, Chunk]]:
        """Give `n` answers to one prompt as (index, chunk), each what a request of its own with the seed + i gives.

        The prompt is computed once. Options and errors are those of `stream`.
        """
        return merged(self.submit_choices(self._asked(prompt, options), n))

    def best_of(self, prompt: str | Sequence[MessageLike], n: int, **options: Unpack[StreamOptions]) -> Completion:
        """Draw `n` answers to one prompt, as `choices` does, and return the one whose tokens are likeliest on average.

        Ties go to the lowest number, and an answer without a token loses to all others. Options and errors are those of
        `stream`; log-probabilities come with the answer, at least those of its tokens.
        """
        asked = self._asked(prompt, options)
        request = asked if asked.logprobs is not None else replace(asked, logprobs=0)
        answers = [stream.completion() for stream in self.submit_choices(request, n)]
        return max(answers, key=lambda answer: answer.mean_logprob)

    def generate_all(
        self, prompts: Sequence[str | Sequence[MessageLike]], **options: Unpack[StreamOptions]
    ) -> list[Completion]:
        """Answer several prompts side by side, as many at once as the model has slots.

        Without a seed each prompt draws its own; with one, all use it, so equal prompts have equal answers. Options and
        errors are those of `stream`.
        """
        requests = [self._asked(prompt, options) for prompt in prompts]
        return list(self.engine.completions(requests, self.finished))

    async def astream(
        self, prompt: str | Sequence[MessageLike], **options: Unpack[StreamOptions]
    ) -> AsyncGenerator[Chunk]:
        """Answer, a chunk at a time, without blocking the event loop; cancelling the task cancels the answer.

        Options and errors are those of `stream`.
        """
        import asyncio  # 15 ms, which a program without it does not wait for

        with self.submit(await asyncio.to_thread(self._asked, prompt, options)) as stream:
            while (chunk := await asyncio.to_thread(next, stream, None)) is not None:
                yield chunk

    def request(
        self,
        prompt: str | Sequence[MessageLike],
        sampling: SamplingParams,
        options: PromptOptions = _DEFAULT,
        *,
        max_tokens: int = 512,
        stop: str | Sequence[str] = (),
        logprobs: int | None = None,
    ) -> Request:
        """Turn a prompt into ids, and settle the seed.

        A request that has a seed or is greedy gives, with a fixed number of threads, the same answer whatever was asked
        before it and whoever is answered beside it.
        """
        ids, markup = self.prompts.prepare(prompt, options)
        return Request(
            prompt_ids=tuple(ids),
            sampling=sampling.seeded(),
            max_tokens=max_tokens,
            stop=checks.stops(stop),
            repeatable=sampling.repeats,
            logprobs=logprobs,
            may_autotune=not sampling.repeats,
            templated=not (options.raw or options.prefill),
            markup=markup,
        )

    def submit(self, request: Request) -> Stream:
        """Start on a request; nothing is computed before the first chunk is asked for.

        Raises:
            PromptTooLong: the context does not hold the prompt and one token more.
        """
        return self.engine.submit(request, self.finished)

    def submit_choices(self, request: Request, n: int) -> list[Stream]:
        """Start on `n` answers to one request, the i-th with its seed + i; the prompt is computed once.

        Errors are those of `submit`.
        """
        return self.engine.choices(request, n, self.finished)

    def _asked(self, prompt: str | Sequence[MessageLike], options: StreamOptions) -> Request:
        """Turn what `stream` takes into a request."""
        request = self.request(
            prompt,
            sampling_of(options),
            prompt_options_of(options),
            max_tokens=options.get("max_tokens", 512),
            stop=options.get("stop", ()),
            logprobs=options.get("logprobs"),
        )
        processors = checks.callables("logits_processors", options.get("logits_processors", ()))
        return replace(request, constraint=options.get("constraint"), logits_processors=processors)

    def encode(self, prompt: str | Sequence[MessageLike], options: PromptOptions = _DEFAULT) -> list[int]:
        """Turn a prompt into the ids that the model is given.

        Raises:
            InvalidParameter: the prompt is empty, or no text, or has control tokens where they are refused.
            TemplateFailed: the model has no chat template, or it refused the messages.
        """
        return self.prompts.encode(prompt, options)

    def render(self, prompt: str | Sequence[MessageLike], options: PromptOptions = _DEFAULT) -> str:
        """Turn a prompt into the text that is tokenized; errors are those of `encode`."""
        return self.prompts.render(prompt, options)

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of token ids; control tokens have none, and what is no UTF-8 becomes U+FFFD.

        Raises:
            InvalidParameter: an id is not of the vocabulary.
        """
        for token in checks.ids("ids", ids):
            checks.integer("ids", token, low=0, high=self.tokenizer.vocab_size - 1)
        return b"".join(map(self.tokenizer.token_bytes, map(int, ids))).decode("utf-8", "replace")

    def score(self, prompt: str | Sequence[MessageLike], continuations: Sequence[str]) -> list[Score]:
        """Return how likely the model finds each continuation after a prompt, which is computed once.

        Args:
            prompt: a text, which may be empty, or a conversation, which the template renders; spaces at its end go to
                the continuation.
            continuations: texts.

        Raises:
            InvalidParameter: a continuation has no token of its own.
            PromptTooLong: the context does not hold the prompt and a continuation.
        """
        text = prompt if isinstance(prompt, str) else self.render(prompt)
        pairs = [self.prompts.split(text, each) for each in continuations]
        return list(self.score_ids([(context or [self.first_id], rest) for context, rest in pairs]))

    def score_ids(self, pairs: Sequence[tuple[Sequence[int], Sequence[int]]]) -> Iterator[Score]:
        """Yield how likely the model finds continuations, each after a context of its own, both given as ids.

        Of contexts that follow one another, what they have in common is computed once. Errors are those of `score`.
        """
        return score_continuations(self.engine, pairs)

    def score_text(self, text: str, advance: Callable[[int], None] = lambda _: None) -> Score:
        """Return how likely the model finds a text, in windows of the context's length, each token scored once.

        The first token is scored after `first_id`. `advance` is told of each window how many tokens it had.
        """
        return score_text(self.engine, self.tokenizer.encode(checks.text("text", text)), self.first_id, advance)

    @property
    def first_id(self) -> int:
        """What the first token of a text is scored after: the beginning of a sequence, else a stop token."""
        bos = self.tokenizer.bos_id
        return min(self.tokenizer.stop_ids, default=0) if bos is None else bos

    def close(self) -> None:
        """Give back the model's memory. May be called twice."""
        self.engine.close()

    def __repr__(self) -> str:
        return f"<LLM {self.files.reference} on {self.backend}, {self.info.device}>"

    def __enter__(self) -> LLM:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
