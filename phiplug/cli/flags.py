"""Groups of flags that several commands share, each a dataclass that becomes part of a command's signature.

`@takes(LoadFlags)` gives a command every flag of `LoadFlags` and hands it one value of that class. So a flag is spelt,
documented and checked in one place. Nothing here loads anything.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, get_type_hints

import typer

from phiplug.errors import InvalidParameter
from phiplug.userfiles import read_text

if TYPE_CHECKING:
    from phiplug.llm import LLM
    from phiplug.spi import LoadOptions
    from phiplug.types import SamplingParams

MODEL, PROMPT, SAMPLING, OUTPUT = "Model and engine", "Prompt", "Sampling", "Output"
DIALECTS = "Sampling as other programs have it"
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class DeviceFlags:
    """How an engine is to load a model, with whatever number of threads."""

    device: Annotated[
        str | None, typer.Option("--device", rich_help_panel=MODEL, help="cpu, metal or cuda.", show_default="the best")
    ] = None
    ctx_size: Annotated[
        int | None,
        typer.Option(
            "-c", "--ctx-size", rich_help_panel=MODEL, help="Tokens per sequence.", show_default="the backend's"
        ),
    ] = None
    gpu_layers: Annotated[
        int | None,
        typer.Option("--gpu-layers", rich_help_panel=MODEL, help="Layers on the GPU.", show_default="all"),
    ] = None
    exact_scales: Annotated[
        bool,
        typer.Option("--exact-scales", rich_help_panel=MODEL, help="MLX: keep quantization scales in float32."),
    ] = False
    lookahead: Annotated[
        Literal["auto", "on", "off"],
        typer.Option(
            "--lookahead",
            rich_help_panel=MODEL,
            help="MLX: go on from a guess of the device.",
        ),
    ] = "auto"
    chat_template: Annotated[
        str | None,
        typer.Option(
            "--chat-template",
            rich_help_panel=PROMPT,
            help="A Jinja file that replaces the model's.",
            show_default=False,
        ),
    ] = None
    offline: Annotated[bool, typer.Option("--offline", rich_help_panel=MODEL, help="Fetch nothing.")] = False
    verbose: Annotated[
        bool, typer.Option("-v", "--verbose", rich_help_panel=OUTPUT, help="Let the engine's own log through.")
    ] = False

    def options(self, slots: int = 1) -> LoadOptions:
        """Return what these flags say to an engine."""
        from phiplug.spi import LoadOptions

        known, mine = ({each.name for each in fields(group)} for group in (EngineFlags, self))
        given = known & mine & {each.name for each in fields(LoadOptions)}
        return LoadOptions(slots=slots, **{name: getattr(self, name) for name in given})


@dataclass(frozen=True, slots=True)
class EngineFlags(DeviceFlags):
    """How an engine is to load a model."""

    threads: Annotated[
        int | None,
        typer.Option("--threads", rich_help_panel=MODEL, help="A fixed number.", show_default="measured"),
    ] = None


@dataclass(frozen=True, slots=True)
class ModelFlags(EngineFlags):
    """Which model, and how an engine is to load it."""

    model: Annotated[
        str | None,
        typer.Option(
            "-m",
            "--model",
            envvar="PHIPLUG_MODEL",
            rich_help_panel=MODEL,
            help="A path, an alias, hf:owner/repo or package:name/file.gguf.",
            show_default="smollm2",
        ),
    ] = None

    def load_on(self, backend: str, *, model: str | None = None, slots: int = 1) -> LLM:
        """Load a model on a backend, the one that these flags name unless another is; a download shows a bar."""
        from phiplug.cli.progress import DownloadBar
        from phiplug.cli.waiting import waiting
        from phiplug.load import load_with

        template = template_source(self.chat_template)
        with waiting("loading the model") as loaded:
            return load_with(
                self.options(slots),
                model or self.model,
                backend=backend,
                chat_template=template,
                offline=self.offline,
                progress=DownloadBar(loaded),
            )


@dataclass(frozen=True, slots=True)
class LoadFlags(ModelFlags):
    """Which model, on which engine."""

    backend: Annotated[
        str,
        typer.Option(
            "-b", "--backend", envvar="PHIPLUG_BACKEND", rich_help_panel=MODEL, help="See `phiplug backends`."
        ),
    ] = "auto"

    def load(self, *, slots: int = 1) -> LLM:
        """Load the model that these flags name, for so many answers at once."""
        return self.load_on(self.backend, slots=slots)


@dataclass(frozen=True, slots=True)
class SamplingFlags:
    """How tokens are drawn; the defaults are those of `SamplingParams`."""

    temperature: Annotated[
        float, typer.Option("-t", "--temp", "--temperature", rich_help_panel=SAMPLING, help="0 is greedy.")
    ] = 0.8
    top_p: Annotated[float, typer.Option("--top-p", rich_help_panel=SAMPLING, help="Nucleus mass; 1 is off.")] = 0.95
    top_k: Annotated[int, typer.Option("--top-k", rich_help_panel=SAMPLING, help="Survivors; 0 is off.")] = 0
    min_p: Annotated[
        float, typer.Option("--min-p", rich_help_panel=SAMPLING, help="Relative to the likeliest; 0 is off.")
    ] = 0.0
    repeat_penalty: Annotated[float, typer.Option("--repeat-penalty", rich_help_panel=SAMPLING, help="1 is off.")] = 1.1
    repeat_last_n: Annotated[
        int | None,
        typer.Option(
            "--repeat-last-n",
            rich_help_panel=SAMPLING,
            help="Its window; 0 is off, -1 is everything.",
            show_default="64, or the dialect's",
        ),
    ] = None
    frequency_penalty: Annotated[
        float, typer.Option("--frequency-penalty", rich_help_panel=SAMPLING, help="Per occurrence.")
    ] = 0.0
    presence_penalty: Annotated[
        float, typer.Option("--presence-penalty", rich_help_panel=SAMPLING, help="Per token that occurred.")
    ] = 0.0
    logit_bias: Annotated[
        list[str] | None,
        typer.Option("--logit-bias", rich_help_panel=SAMPLING, help="ID=BIAS; may be repeated.", show_default=False),
    ] = None
    seed: Annotated[
        int | None,
        typer.Option("--seed", rich_help_panel=SAMPLING, help="Same seed, same text.", show_default="random"),
    ] = None

    dialect: Annotated[
        str,
        typer.Option(
            "--sampling-dialect",
            rich_help_panel=DIALECTS,
            help="phiplug, candle, llama.cpp, mlx-lm or hf: whose rules.",
        ),
    ] = "phiplug"
    penalize_prompt: Annotated[
        bool | None,
        typer.Option(
            "--penalize-prompt/--ignore-prompt",
            rich_help_panel=DIALECTS,
            help="Whether the prompt counts as repetition.",
            show_default="ignored, or the dialect's",
        ),
    ] = None
    typical_p: Annotated[
        float, typer.Option("--typical-p", rich_help_panel=DIALECTS, help="Mass of the most typical; 1 is off.")
    ] = 1.0
    xtc_probability: Annotated[
        float, typer.Option("--xtc-probability", rich_help_panel=DIALECTS, help="How often the top goes; 0 is off.")
    ] = 0.0
    xtc_threshold: Annotated[
        float, typer.Option("--xtc-threshold", rich_help_panel=DIALECTS, help="How likely the top is.")
    ] = 0.1
    top_n_sigma: Annotated[
        float, typer.Option("--top-n-sigma", rich_help_panel=DIALECTS, help="Deviations below the top; 0 is off.")
    ] = 0.0
    dry_multiplier: Annotated[
        float, typer.Option("--dry-multiplier", rich_help_panel=DIALECTS, help="Against repeated phrases; 0 is off.")
    ] = 0.0
    dry_base: Annotated[
        float, typer.Option("--dry-base", rich_help_panel=DIALECTS, help="Growth per repeated token.")
    ] = 1.75
    dry_allowed_length: Annotated[
        int, typer.Option("--dry-allowed-length", rich_help_panel=DIALECTS, help="Repetition that is free.")
    ] = 2
    dry_last_n: Annotated[
        int, typer.Option("--dry-last-n", rich_help_panel=DIALECTS, help="How far back; -1 is everything.")
    ] = -1
    dry_breakers: Annotated[
        list[str] | None,
        typer.Option(
            "--dry-breaker", rich_help_panel=DIALECTS, help="ID[,ID...]; may be repeated.", show_default=False
        ),
    ] = None

    def params(self) -> SamplingParams:
        """Return the checked parameters."""
        from phiplug.types import SamplingParams

        values = {field.name: getattr(self, field.name) for field in fields(self)}
        values |= {
            "logit_bias": dict(map(_bias, self.logit_bias or ())),
            "dry_breakers": tuple(map(_breaker, self.dry_breakers or ())),
        }
        return SamplingParams(**values)


def command_app() -> typer.Typer:
    """Return the app that a command's module fills; all of them behave alike."""
    return typer.Typer(
        add_completion=False, pretty_exceptions_enable=False, context_settings={"help_option_names": ["-h", "--help"]}
    )


def takes(*groups: type) -> Callable[[Callable[..., R]], Callable[..., R]]:
    """Give a command the flags of these dataclasses; it is called with a value of each, then its own arguments."""

    def decorate(command: Callable[..., R]) -> Callable[..., R]:
        def wrapper(**arguments: Any) -> R:  # Any: what typer parsed, by the types of the fields
            values = [group(**{field.name: arguments.pop(field.name) for field in fields(group)}) for group in groups]
            return command(*values, **arguments)

        own = list(inspect.signature(command, eval_str=True).parameters.values())[len(groups) :]
        parameters = own + [parameter for group in groups for parameter in _parameters(group)]
        wrapper.__doc__ = command.__doc__
        wrapper.__name__ = command.__name__
        wrapper.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # typer reads it
        wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return wrapper

    return decorate


def _parameters(group: type) -> list[inspect.Parameter]:
    """Return a parameter for each field, those first that say which model on which backend."""
    hints = get_type_hints(group, include_extras=True)
    defaults = {field.name: field.default for field in fields(group)}
    return [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if defaults[name] is MISSING else defaults[name],
            annotation=hints[name],
        )
        for each in group.__mro__
        for name in inspect.get_annotations(each)
    ]


def _bias(text: str) -> tuple[int, float]:
    token, _, bias = text.partition("=")
    try:
        return int(token), float(bias)
    except ValueError:
        raise InvalidParameter("logit_bias", f"{text!r} is not ID=BIAS, as in 42=-1.5") from None


def _breaker(text: str) -> tuple[int, ...]:
    try:
        return tuple(map(int, text.split(",")))
    except ValueError:
        raise InvalidParameter("dry_breakers", f"{text!r} is not ID[,ID...], as in 198 or 13,198") from None


def template_source(given: str | None) -> str | None:
    """Read a chat template from the file that the user names."""
    return None if given is None else read_text("chat_template", given)
