"""A model of llm that asks phiplug. Which engine computes, this file does not know."""

from __future__ import annotations

import contextlib
import json
import math
from typing import TYPE_CHECKING, Any

import llm

import phiplug
from llm_phiplug.messages import events_of, messages_of, tools_of
from llm_phiplug.options import PhiplugOptions, loading, sampling
from phiplug.errors import PhiplugError, UnsupportedParameter
from phiplug.types import Completion, Constraint

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llm.parts import StreamEvent

    from phiplug.llm import LLM, Stream
    from phiplug.types import TokenLogprob


class PhiplugModel(llm.Model):
    """One of phiplug's models; loaded at the first prompt, and anew where other options of loading are given."""

    can_stream = True
    supports_schema = True
    supports_tools = True

    class Options(PhiplugOptions):
        """See `llm models --options`."""

    def __init__(self, model_id: str, reference: str | None) -> None:
        """Stand for `reference`, or for what the option `model` says where it is None."""
        self.model_id = model_id
        self._reference = reference
        self._loaded: tuple[object, LLM] | None = None

    def execute(
        self,
        prompt: llm.Prompt,
        stream: bool,  # noqa: ARG002  llm's signature; it gathers the events itself where it does not stream
        response: llm.Response,
        conversation: llm.Conversation | None,  # noqa: ARG002  the prompt has its messages
    ) -> Iterator[StreamEvent]:
        """Answer, an event at a time.

        Raises:
            ModelError: what phiplug says is wrong, in one line.
        """
        try:
            with self._asked(prompt) as answer:
                ids: dict[int, str] = {}
                chunks = []
                for chunk in answer:
                    chunks.append(chunk)
                    yield from events_of(chunk, ids)
        except PhiplugError as error:
            raise llm.ModelError(str(error)) from error
        _report(response, Completion.of(answer.request, chunks), self._llm(prompt.options))

    def _asked(self, prompt: llm.Prompt) -> Stream:
        options = prompt.options
        more: dict[str, Any] = {}  # Any: `LLM.stream` checks them
        if options.max_tokens is not None:
            more["max_tokens"] = options.max_tokens
        if prompt.schema:  # what a schema says and no grammar can hold is a warning, as with other models of llm
            more["constraint"] = Constraint("json_schema", json.dumps(prompt.schema), lenient=True)
        return self._llm(options).stream(
            messages_of(prompt.messages),
            params=sampling(options),
            stop=options.stop or (),
            logprobs=options.logprobs,
            tools=tools_of(prompt.tools),
            **more,
        )

    def _llm(self, options: PhiplugOptions) -> LLM:
        """Return the loaded model, or load it anew where other options of loading are given."""
        if self._reference is not None and options.model is not None:
            raise UnsupportedParameter("model", f"{self.model_id} is one already", hint="use `-m phiplug -o model ...`")
        reference, how = self._reference or options.model, loading(options)
        if self._loaded is None or self._loaded[0] != (reference, how):
            if self._loaded is not None:
                self._loaded[1].close()
                self._loaded = None
            self._loaded = (reference, how), phiplug.load(reference, **how)
        return self._loaded[1]

    def close(self) -> None:
        """Give back the model's memory."""
        with contextlib.suppress(AttributeError, TypeError):
            self._loaded[1].close()  # type: ignore[index]  # None where nothing was loaded
        self._loaded = None


def _report(response: llm.Response, answer: Completion, model: LLM) -> None:
    """Say what llm logs beside the text: usage, and how the answer came to be."""
    usage = answer.usage
    details = {"cached_tokens": usage.cached_tokens, "forced_tokens": usage.forced_tokens}
    response.set_usage(
        input=usage.prompt_tokens,
        output=usage.completion_tokens,
        details={name: count for name, count in details.items() if count} or None,
    )
    response.response_json = {
        "model": model.files.reference,
        "backend": model.backend,
        "device": model.info.device,
        "seed": answer.sampling.seed,
        "finish_reason": answer.finish_reason,
        "constraint": answer.constraint,
    }
    if answer.logprobs:
        response.response_json["logprobs"] = {"content": [_logprob(entry) for entry in answer.logprobs]}


def _logprob(entry: TokenLogprob) -> dict[str, Any]:  # Any: what JSON holds
    """Return a token's entry in OpenAI's form; JSON has no -inf, which OpenAI writes as -9999."""
    return {
        "token": entry.bytes.decode("utf-8", "replace"),
        "bytes": list(entry.bytes),
        "logprob": entry.logprob if math.isfinite(entry.logprob) else -9999.0,
        "top_logprobs": [_logprob(each) for each in entry.top],
    }
