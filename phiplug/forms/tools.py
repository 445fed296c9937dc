"""Tools as OpenAI's and Anthropic's clients write them: to options of a prompt, and from calls to what clients read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from phiplug.errors import InvalidParameter
from phiplug.forms.fields import Check, Given, array, flag, honoured, mapping
from phiplug.messages import Tool, ToolCall, tools_of
from phiplug.text.prompt import PromptOptions

if TYPE_CHECKING:
    from phiplug.forms.problems import Json
    from phiplug.types import ToolCallDelta

Written = Mapping[str, Any]  # Any: what JSON holds


def tools(read: Callable[[Written], Tool]) -> Check:
    """Check for a list of tools, no two of one name; `read` takes one of them."""

    def check(path: str, value: Any) -> tuple[Tool, ...]:  # Any: what JSON holds
        return tools_of([read(mapping(f"{path}[{at}]", each)) for at, each in enumerate(array(path, value))])

    return check


def _flat(value: Written) -> Any:  # Any: what `Tool.of` takes
    """Return a tool of the newer interface, whose function is the tool itself."""
    return {"type": value.get("type"), "function": {key: each for key, each in value.items() if key != "type"}}


def _anthropic(value: Written) -> Any:  # Any: as above
    """Return a tool of Anthropic's interface, whose schema has another name."""
    if value.get("type", "custom") != "custom":
        raise InvalidParameter("tools", f"{value['type']!r:.60} is a tool of Anthropic's own, which nothing runs here")
    named = {key: each for key, each in value.items() if key not in ("type", "input_schema", "cache_control")}
    return {"type": "function", "function": {**named, "parameters": value.get("input_schema") or {}}}


def _choice(path: str, value: Any) -> str:  # Any: what JSON holds
    """Check for OpenAI's choice: a word, or an object that names a function."""
    if isinstance(value, str):
        return value
    chosen = mapping(path, value)
    name = mapping(path, chosen.get("function", chosen)).get("name")
    if chosen.get("type") != "function" or not isinstance(name, str):
        raise InvalidParameter(path, "is neither auto, none, required nor the name of a function")
    return name


def _anthropic_choice(path: str, value: Any) -> Written:  # Any: as above
    chosen = mapping(path, value)
    if chosen.get("type") not in ("auto", "any", "none", "tool"):
        raise InvalidParameter(path, "its type is none of auto, any, none, tool")
    return chosen


_WORDS = "`auto`, `none`, `required`, or an object that names a function"
OPENAI_TOOLS = (
    honoured("tools", "a list of functions; docs/tools.md says of which models", tools(Tool.of)),
    honoured("tool_choice", _WORDS, _choice),
    honoured("parallel_tool_calls", "false allows one call", flag),
)
RESPONSES_TOOLS = (
    honoured("tools", "a list of functions", tools(lambda value: Tool.of(_flat(value)))),
    *OPENAI_TOOLS[1:],
)
ANTHROPIC_TOOLS = (
    honoured("tools", "a list of tools with an `input_schema`", tools(lambda value: Tool.of(_anthropic(value)))),
    honoured("tool_choice", "its type is `auto`, `any`, `none` or `tool`", _anthropic_choice),
)


def prompt_options(given: Given) -> PromptOptions:
    """Return the options of a prompt that the fields of a request ask for.

    Raises:
        InvalidParameter: the choice is not among the tools.
    """
    choice, parallel = given.get("tool_choice", "auto"), given.get("parallel_tool_calls", True)
    if isinstance(choice, Mapping):
        parallel = not choice.get("disable_parallel_tool_use", False)
        choice = {"any": "required", "tool": choice.get("name", "")}.get(choice["type"], choice["type"])
    return PromptOptions(
        variables=given.get("chat_template_kwargs", {}),
        tools=given.get("tools", ()),
        tool_choice=choice,
        parallel_tool_calls=parallel,
    )


def calls(path: str, value: Any) -> tuple[ToolCall, ...]:  # Any: what JSON holds
    """Check for the calls of an assistant's message, in OpenAI's form."""
    try:
        return tuple(ToolCall.of(each) for each in array(path, value))
    except InvalidParameter as error:
        raise InvalidParameter(path, error.message.removeprefix("tool_calls: "), hint=error.hint) from None


def openai_call(delta: ToolCallDelta) -> Json:
    """Return a whole call, in OpenAI's form; one that was cut off has the text that came."""
    return {"id": delta.id, "type": "function", "function": {"name": delta.name, "arguments": delta.arguments}}


def openai_deltas(deltas: Iterable[ToolCallDelta]) -> list[Json]:
    """Return pieces of calls, in OpenAI's form."""
    return [
        {"index": delta.index, **openai_call(delta)}
        if delta.name
        else {"index": delta.index, "function": {"arguments": delta.arguments}}
        for delta in deltas
    ]
