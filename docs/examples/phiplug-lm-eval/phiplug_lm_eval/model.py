"""A model class of lm-evaluation-harness that asks phiplug for log-probabilities and text.

The harness's `TemplateLM` splits texts into ids, so a score means here what it means for its other models. Which engine
computes, this file does not know.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar, Unpack

from lm_eval.api.model import TemplateLM
from lm_eval.api.registry import register_model
from lm_eval.models.utils import normalize_gen_kwargs
from lm_eval.utils import simple_parse_args_string
from tqdm import tqdm

import phiplug
from phiplug.errors import PhiplugWarning, UnsupportedParameter
from phiplug.llm import PromptOptions
from phiplug.types import SamplingParams

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance

    from phiplug.types import Request

T = TypeVar("T")
Pair = tuple[tuple[str, str], list[int], list[int]]
"""A context and a continuation, as texts and as ids."""

SIDE_BY_SIDE = 8
"""Requests that are computed at once where the harness is to choose."""

_RAW = PromptOptions(raw=True)


class LoadArguments(TypedDict, total=False):
    """What `phiplug.load` takes beside the model, the backend and the slots."""

    device: str
    ctx_size: int
    threads: int
    gpu_layers: int
    exact_scales: bool
    offline: bool
    verbose: bool


@register_model("phiplug")
class PhiplugLM(TemplateLM):
    """`--model phiplug --model_args model=smollm2,backend=mlx`."""

    def __init__(
        self,
        model: str | None = None,
        backend: str = "auto",
        *,
        batch_size: int | str = 1,
        max_batch_size: int = SIDE_BY_SIDE,
        seed: int = 1234,
        **options: Unpack[LoadArguments],
    ) -> None:
        """Load a model.

        Args:
            model: a path, an alias or a name on the hub; the backend's own default if None.
            backend: the engine.
            batch_size: how many requests are computed side by side, each with a context of memory; "auto" for
                `max_batch_size`.
            max_batch_size: the most of them.
            seed: of the first request that is sampled; the next ones count on.
            options: see `phiplug.load`.
        """
        super().__init__()
        slots = max_batch_size if str(batch_size).startswith("auto") else int(batch_size)
        self.llm = phiplug.load(model, backend=backend, slots=slots, **options)
        self._seed = seed

    @classmethod
    def create_from_arg_string(cls, arg_string: str, additional_config: dict[str, Any] | None = None) -> PhiplugLM:
        """Take `--model_args`, and of the harness's own flags all but the device."""
        return cls.create_from_arg_obj(simple_parse_args_string(arg_string), additional_config)

    @classmethod
    def create_from_arg_obj(
        cls, arg_dict: dict[str, Any], additional_config: dict[str, Any] | None = None
    ) -> PhiplugLM:  # Any: what the user typed
        """As above; the harness's `device` is PyTorch's, "cuda:0" where nobody gives one, and so says nothing here."""
        given = {name: value for name, value in (additional_config or {}).items() if value is not None}
        given.pop("device", None)
        return cls(**arg_dict, **given)

    # What `TemplateLM` asks of a tokenizer

    @property
    def eot_token_id(self) -> int:
        """The id that ends a text."""
        return min(self.llm.tokenizer.stop_ids, default=self.llm.first_id)

    @property
    def prefix_token_id(self) -> int:
        """The id that stands for an empty context."""
        return self.llm.first_id

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: object) -> list[int]:
        """Return the ids of a text, with a beginning of sequence where the model asks for one."""
        if add_special_tokens is False or not string:
            return self.llm.tokenizer.encode(string)
        return self.llm.encode(string, _RAW)

    @property
    def tokenizer_name(self) -> str:
        """What the harness's cache of requests calls the tokenizer."""
        return self.llm.files.reference

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """Render a conversation; without a generation prompt, the last message is an answer to be continued."""
        if add_generation_prompt:
            return self.llm.render(chat_history)
        return self.llm.render(chat_history[:-1]) + chat_history[-1]["content"]

    # What the harness asks of a model

    def _loglikelihood_tokens(
        self, requests: Sequence[Pair], disable_tqdm: bool = False, **_: object
    ) -> list[tuple[float, bool]]:
        """Return the log-probability of each continuation, and whether greedy decoding would write it."""
        size = self.llm.info.context_length
        pairs = [(_end(context, size - len(rest)), rest) for _, context, rest in requests]
        _warn_of_cuts(sum(len(cut) < len(context) for (cut, _), (_, context, _) in zip(pairs, requests, strict=True)))
        results: list[tuple[float, bool]] = []
        for score in _progress(self.llm.score_ids(pairs), len(pairs), "loglikelihood", disable_tqdm):
            result = (score.total, score.greedy)
            self.cache_hook.add_partial("loglikelihood", requests[len(results)][0], result)
            results.append(result)
        return results

    def loglikelihood_rolling(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[float]:
        """Return the log-probability of each text, in windows of the context's length."""
        totals: list[float] = []
        for request in _progress(requests, len(requests), "loglikelihood_rolling", disable_tqdm):
            totals.append(self.llm.score_text(request.args[0]).total)
            self.cache_hook.add_partial("loglikelihood_rolling", request.args, totals[-1])
        return totals

    def generate_until(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[str]:
        """Continue each text; see `_sampling` for what of transformers' parameters is honoured."""
        asked = [self._request(request.args, self._seed + index) for index, request in enumerate(requests)]
        texts: list[str] = []
        for answer in _progress(self.llm.engine.completions(asked), len(asked), "generate_until", disable_tqdm):
            self.cache_hook.add_partial("generate_until", requests[len(texts)].args, answer.text)
            texts.append(answer.text)
        return texts

    def _request(self, arguments: tuple[str, dict[str, Any]], seed: int) -> Request:  # Any: what a task writes
        """Return a request; a context that leaves no room for the answer is cut on the left, as the harness does."""
        context, gen_kwargs = arguments
        options: dict[str, Any] = dict(normalize_gen_kwargs(gen_kwargs))  # Any: as above
        count, stop = options.pop("max_gen_toks"), [text for text in options.pop("until") if text]
        request = self.llm.request(context, _sampling(options, seed), _RAW, max_tokens=count, stop=stop)
        room = self.llm.info.context_length - count
        cut = _end(request.prompt_ids, room)
        _warn_of_cuts(int(len(cut) < len(request.prompt_ids)))
        return replace(request, prompt_ids=tuple(cut))

    def get_model_info(self) -> dict[str, Any]:  # Any: what JSON holds
        """Return what the harness stores beside the results."""
        info = self.llm.info
        return {
            "phiplug_version": phiplug.__version__,
            "backend": self.llm.backend,
            "backend_version": info.version,
            "backend_device": info.device,
            "quantization": info.quantization,
            "context_length": info.context_length,
        }


def _sampling(options: dict[str, Any], seed: int) -> SamplingParams:  # Any: what a task writes
    """Turn transformers' parameters into phiplug's; the rest, which nothing would read, is refused."""
    temperature = options.pop("temperature", 1.0)
    values: dict[str, Any] = {  # Any: as above
        "temperature": temperature if options.pop("do_sample") else 0.0,
        "top_p": 1.0,
        "repeat_penalty": 1.0,
        "repeat_last_n": -1,
        "penalize_prompt": True,
        "seed": seed,
    }
    values |= {ours: options.pop(theirs) for theirs, ours in _PARAMETERS.items() if theirs in options}
    if options:
        raise UnsupportedParameter("gen_kwargs", f"phiplug has no {', '.join(sorted(options))}")
    return SamplingParams(**values)


_PARAMETERS = {"top_p": "top_p", "top_k": "top_k", "min_p": "min_p", "repetition_penalty": "repeat_penalty"}
"""phiplug's names of what transformers calls otherwise; a penalty counts prompt and answer, as there."""


def _end(ids: Sequence[T], room: int) -> Sequence[T]:
    """Return the last `room` ids, and one where there is no room, so that the engine says that it is too long."""
    return ids[-max(room, 1) :]


def _warn_of_cuts(count: int) -> None:
    if count:
        message = f"{count} of the contexts were cut on the left to fit the model's; a larger `ctx_size` spares them"
        warnings.warn(message, PhiplugWarning, stacklevel=3)


def _progress(items: Iterable[T], total: int, title: str, disabled: bool) -> Iterable[T]:
    yield from tqdm(items, total=total, desc=title, disable=disabled)
