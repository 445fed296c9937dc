"""The hooks: where a plugin may add to phiplug. docs/plugins.md has an example of each.

No hook runs inside the token loop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pluggy

from phiplug.errors import ContractMismatch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import typer

    from phiplug.spi import Backend, ModelFiles, Tokenizer
    from phiplug.types import Request, Timings, ToolFormat, Usage

hookspec = pluggy.HookspecMarker("phiplug")
FIRST_RESULT = ("phiplug_find_model", "phiplug_tokenizer", "phiplug_chat_template")
NOT_HONOURED = ("wrapper", "hookwrapper", "tryfirst", "trylast")


def refuse_options(manager: pluggy.PluginManager, plugin: object) -> None:
    """Refuse what pluggy wraps and orders by: phiplug calls each plugin alone, so these options would do nothing.

    Raises:
        ContractMismatch: an implementation of the registered `plugin` has one of them.
    """
    callers = manager.get_hookcallers(plugin) or []
    for each in (each for caller in callers for each in caller.get_hookimpls() if each.plugin is plugin):
        options = ", ".join(name for name in NOT_HONOURED if getattr(each, name))
        if options:
            raise ContractMismatch(f"{each.function.__name__} has the option {options}, which phiplug does not honour")


@hookspec
def phiplug_register_backends() -> list[Backend]:  # type: ignore[empty-body]
    """Return the backends that this plugin brings. It must be cheap and import no engine.

    .. versionadded:: 0.1
    """


@hookspec(firstresult=True)
def phiplug_find_model(reference: str) -> ModelFiles | None:
    """Turn a model reference that this plugin knows into local files; None leaves it to others.

    .. versionadded:: 0.1
    """


@hookspec
def phiplug_model_aliases() -> Mapping[str, Sequence[str]]:  # type: ignore[empty-body]
    """Return short names, each with the references that are tried for it, in order.

    .. versionadded:: 0.1
    """


@hookspec(firstresult=True)
def phiplug_tokenizer(files: ModelFiles) -> Tokenizer | None:
    """Return the tokenizer of these files; None leaves it to others.

    .. versionadded:: 0.1
    """


@hookspec(firstresult=True)
def phiplug_chat_template(files: ModelFiles) -> str | None:
    """Return the Jinja source of the chat template of these files; None leaves it to others.

    .. versionadded:: 0.1
    """


@hookspec
def phiplug_tool_formats() -> Mapping[str, ToolFormat]:  # type: ignore[empty-body]
    """Return forms in which models call tools, by their names; they are tried before phiplug's own.

    .. versionadded:: 0.1
    """


@hookspec
def phiplug_add_commands(app: typer.Typer) -> None:
    """Add the command that the entry point in the group `phiplug.commands` names; called when it is run.

    .. versionadded:: 0.1
    """


@hookspec
def phiplug_hardware_info() -> Mapping[str, str]:  # type: ignore[empty-body]
    """Return facts about this machine that a benchmark should record; a fact of two plugins is an error.

    .. versionadded:: 0.1
    """


@hookspec
def phiplug_request_finished(request: Request, usage: Usage, timings: Timings) -> None:
    """Observe a request that ran to its end, before its last chunk is handed out; an error is logged, not raised.

    .. versionadded:: 0.1
    """
