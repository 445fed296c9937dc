"""Finds plugins by their entry points, loads them, and calls their hooks. The only file that builds a PluginManager.

A plugin is imported when it is first needed and no sooner: a backend by its name, the others when one of their hooks
is. One that breaks is set aside with its reason and harms nothing else; asking for it by name raises that reason.
No choice hangs on the order in which plugins were installed or registered.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections import Counter
from dataclasses import dataclass
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, Literal, cast

import pluggy

from phiplug.errors import (
    BackendAmbiguous,
    BackendNotFound,
    ContractMismatch,
    PhiplugWarning,
    PluginError,
    PluginLoadError,
)
from phiplug.plugins import hookspecs
from phiplug.plugins.calls import TIMEOUT_S, guarded, said, within
from phiplug.plugins.contract import check_answer, misfit, named_backend

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    import typer

    from phiplug.spi import Backend, ModelFiles, Tokenizer
    from phiplug.types import Request, Timings, ToolFormat, Usage

BACKENDS = "phiplug.backends"
COMMANDS = "phiplug.commands"
OTHERS = "phiplug"


Status = Literal["not loaded", "loaded", "broken", "disabled"]


@dataclass(slots=True)
class Plugin:
    """An entry point and what became of it."""

    entry: EntryPoint
    status: Status = "not loaded"
    error: PluginError | None = None
    hooks: tuple[str, ...] = ()
    key: str = ""  # under which the manager knows what was imported; two entry points may name one module

    @property
    def name(self) -> str:
        """The name of the entry point; in the group of backends it is also the backend's."""
        return self.entry.name

    @property
    def distribution(self) -> str:
        """The distribution that brought it."""
        return self.entry.dist.name if self.entry.dist else ""

    @property
    def version(self) -> str:
        """The version of that distribution."""
        return self.entry.dist.version if self.entry.dist else ""


class Plugins:
    """The plugins of this process, each in its state."""

    def __init__(self, entries: Iterable[EntryPoint], disabled: Collection[str] = ()) -> None:
        self._manager = pluggy.PluginManager("phiplug")
        self._manager.add_hookspecs(hookspecs)
        self._plugins = sorted(map(Plugin, entries), key=lambda plugin: (plugin.name, plugin.distribution))
        for plugin in self._plugins:
            if plugin.name in disabled or plugin.distribution in disabled:
                plugin.status = "disabled"

    @classmethod
    def installed(cls) -> Plugins:
        """Find what is installed; PHIPLUG_DISABLE_PLUGINS names entry points or distributions to leave out."""
        found = entry_points()
        entries = [entry for group in (BACKENDS, COMMANDS, OTHERS) for entry in found.select(group=group)]
        names = {name.strip() for name in os.environ.get("PHIPLUG_DISABLE_PLUGINS", "").split(",")} - {""}
        plugins = cls(entries, names)
        for name in sorted(names - {of for plugin in plugins for of in (plugin.name, plugin.distribution)}):
            warnings.warn(f"PHIPLUG_DISABLE_PLUGINS: no plugin is called {name!r}", PhiplugWarning, stacklevel=2)
        return plugins

    def __iter__(self) -> Iterator[Plugin]:
        return iter(self._plugins)

    def of(self, group: str) -> list[Plugin]:
        """Return the plugins of an entry-point group that are not disabled, by name."""
        return [plugin for plugin in self._plugins if plugin.entry.group == group and plugin.status != "disabled"]

    # Backends

    def backend(self, name: str) -> Backend:
        """Load the one plugin that registers the backend `name`.

        Raises:
            BackendNotFound: no plugin has that name.
            BackendAmbiguous: two have it.
            PluginLoadError: it could not be imported or registered.
            ContractMismatch: it was written for another version of the contract.
        """
        candidates = [plugin for plugin in self.of(BACKENDS) if plugin.name == name]
        if not candidates:
            raise self._not_found(name)
        if len(candidates) > 1:
            owners = " and ".join(plugin.distribution for plugin in candidates)
            raise BackendAmbiguous(f"{owners} both bring a backend {name!r}", hint="uninstall or disable one of them")
        return self._backend_of(candidates[0])

    def backends(self) -> list[Backend]:
        """Load every backend; the broken and the ambiguous are left out, and `Plugin.error` says why."""
        plugins = self.of(BACKENDS)
        names = Counter(plugin.name for plugin in plugins)
        found = []
        for plugin in plugins:
            try:
                found.append(self.backend(plugin.name))
            except PluginError as error:
                plugin.error = error
                plugin.status = "broken" if names[plugin.name] == 1 else plugin.status
        return found

    # Hooks, each a typed line

    def find_model(self, reference: str) -> ModelFiles | None:
        """Ask the plugins for the files behind `reference`."""
        return cast("ModelFiles | None", self._one("phiplug_find_model", reference=reference))

    def model_aliases(self) -> Mapping[str, Sequence[str]]:
        """Gather the aliases that plugins bring.

        Raises:
            PluginError: two plugins bring the same one.
        """
        return self._gathered("phiplug_model_aliases")

    def tokenizer(self, files: ModelFiles) -> Tokenizer | None:
        """Ask the plugins for the tokenizer of `files`."""
        return cast("Tokenizer | None", self._one("phiplug_tokenizer", files=files))

    def chat_template(self, files: ModelFiles) -> str | None:
        """Ask the plugins for the chat template of `files`."""
        return cast("str | None", self._one("phiplug_chat_template", files=files))

    def tool_formats(self) -> Mapping[str, ToolFormat]:
        """Gather the forms of calls that plugins bring; errors are those of `model_aliases`."""
        return self._gathered("phiplug_tool_formats")

    def add_command(self, name: str, app: typer.Typer) -> None:
        """Let the plugin of the command `name` add it to `app`.

        Raises:
            PluginLoadError: it could not be imported or registered.
            PluginError: two plugins bring it, or its hook failed.
        """
        candidates = [plugin for plugin in self.of(COMMANDS) if plugin.name == name]
        if len(candidates) != 1:
            owners = " and ".join(plugin.distribution for plugin in candidates) or "no plugin"
            raise PluginError(f"{owners} bring a command {name!r}", hint="uninstall or disable one of them")
        self.load(candidates[0])
        if candidates[0].error:
            raise candidates[0].error
        self._call("phiplug_add_commands", candidates[0].key, app=app)
        if not app.registered_commands and not app.registered_groups:
            raise PluginError(f"the plugin {candidates[0].key} adds no command", hint=_removal(candidates[0]))

    def hardware_info(self) -> dict[str, str]:
        """Gather facts about this machine.

        Raises:
            PluginError: two plugins state the same fact.
        """
        return self._gathered("phiplug_hardware_info")

    def request_finished(self, request: Request, usage: Usage, timings: Timings) -> None:
        """Tell every observer; one that fails is logged and keeps nobody else from hearing."""
        for name in self._implementing("phiplug_request_finished"):
            try:
                self._call("phiplug_request_finished", name, request=request, usage=usage, timings=timings)
            except PluginError as error:
                logging.getLogger("phiplug").warning("%s", error)

    def load(self, plugin: Plugin) -> None:
        """Import and register a plugin, if that was not tried before; `Plugin.error` says what went wrong."""
        if plugin.status == "not loaded":
            self._load(plugin)

    # Within

    def _one(self, hook: str, **arguments: object) -> object:
        """Call a firstresult hook of every plugin and return the one answer, or None."""
        answers = self._answers(hook, **arguments)
        if len(answers) > 1:
            raise PluginError(
                f"the plugins {' and '.join(answers)} both answer {hook} for {next(iter(arguments.values()))!r}",
                hint="disable one of them with PHIPLUG_DISABLE_PLUGINS",
            )
        return _first(list(answers.values()))

    def _gathered(self, hook: str) -> dict[str, Any]:  # Any: what the hook's mappings hold
        """Put the mappings of several plugins together; none may take over what another has said."""
        gathered: dict[str, Any] = {}
        for name, answer in self._answers(hook).items():
            for key, value in answer.items():
                if key in gathered:
                    raise PluginError(f"the plugin {name} answers {hook} for {key!r}, as another plugin does")
                gathered[key] = value
        return gathered

    def _answers(self, hook: str, **arguments: object) -> dict[str, Any]:  # Any: what the hook returns
        """Call `hook` of one plugin after another, and return what each answered that had an answer."""
        answers = {}
        for name in self._implementing(hook):
            answer = self._call(hook, name, **arguments)
            if answer is not None:
                owner = f"the plugin {name}"
                guarded(owner, partial(check_answer, owner, hook, answer), PluginError)  # its attributes are code too
                answers[name] = answer
        return answers

    def _implementing(self, hook: str) -> list[str]:
        """Return the names of the loaded plugins that implement `hook`; the general ones are loaded for it."""
        for plugin in self.of(OTHERS):
            self.load(plugin)
        return sorted(
            implementation.plugin_name for implementation in getattr(self._manager.hook, hook).get_hookimpls()
        )

    def _call(self, hook: str, name: str, **arguments: object) -> Any:  # Any: what the hook returns
        """Call `hook` of one plugin, so that one that raises is named and harms no other; return its answer or None."""
        others = [plugin for other, plugin in self._manager.list_name_plugin() if other != name]
        try:
            answers = within(TIMEOUT_S, lambda: self._manager.subset_hook_caller(hook, others)(**arguments))
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            if (mismatch := misfit(f"the plugin {name}", error)) is not None:
                raise mismatch from error
            raise PluginError(f"the plugin {name} failed in {hook}: {said(error)}") from error
        return answers if hook in hookspecs.FIRST_RESULT else _first(answers)

    def _backend_of(self, plugin: Plugin) -> Backend:
        self.load(plugin)
        if plugin.error:
            raise plugin.error
        try:
            answer = self._call("phiplug_register_backends", plugin.key)
        except ContractMismatch:
            raise
        except PluginError as error:
            raise PluginLoadError(error.message, hint=_removal(plugin)) from error
        return named_backend(f"the plugin {plugin.name}", plugin.name, answer)

    def _load(self, plugin: Plugin) -> None:
        try:
            module = within(TIMEOUT_S, plugin.entry.load)
            plugin.key = self._registered(module, f"{plugin.name} ({plugin.distribution})")
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001  a plugin may even call sys.exit() when it is imported
            owner = plugin.distribution or "an unknown distribution"
            plugin.status = "broken"
            plugin.error = PluginLoadError(
                f"the plugin {plugin.name} of {owner} could not be loaded: {said(error)}", hint=_removal(plugin)
            )
        else:
            plugin.status = "loaded"
            plugin.hooks = tuple(sorted(caller.name for caller in self._manager.get_hookcallers(module) or ()))

    def _registered(self, module: object, key: str) -> str:
        """Register a module, unless it is, and return its key; one whose hooks are wrong is taken out again."""
        known = self._manager.get_name(module)
        if known is not None:
            return known
        try:
            self._manager.register(module, key)
            hookspecs.refuse_options(self._manager, module)
            self._manager.check_pending()  # without it, a misspelt hook would be silently ignored
        except BaseException:
            if self._manager.has_plugin(key):
                self._manager.unregister(name=key)
            raise
        return key

    def _not_found(self, name: str) -> BackendNotFound:
        names = ", ".join(dict.fromkeys(plugin.name for plugin in self.of(BACKENDS))) or "none"
        disabled = any(plugin.name == name for plugin in self._plugins if plugin.entry.group == BACKENDS)
        what = "is disabled by PHIPLUG_DISABLE_PLUGINS" if disabled else "is not installed"
        return BackendNotFound(f"the backend {name!r} {what}", hint=f"installed: {names}")


def _removal(plugin: Plugin) -> str:
    return f"pip uninstall {plugin.distribution}, or PHIPLUG_DISABLE_PLUGINS={plugin.name}"


def _first(items: list[Any]) -> Any:  # Any: the type of the items, which the callers know
    return items[0] if items else None
