"""What a chat template may name, call and compute: HF transformers' rules, and less where a template gains nothing.

Jinja's own sandbox keeps a template from Python's internals. Here it is narrowed to lists of what is allowed, and what
a template calls or computes is checked before and admitted after. This module knows nothing of messages.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, cast

import jinja2
from jinja2 import nodes
from jinja2.exceptions import SecurityError, TemplateError
from jinja2.filters import FILTERS
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.tests import TESTS
from jinja2.utils import Namespace

from phiplug.text.sandbox.checks import CHECKS, BoundedFormatter, check_percent, modulo, multiply, power, tojson
from phiplug.text.sandbox.instrument import Generation, Instrument
from phiplug.text.sandbox.limits import BoundExceeded, admit, concatenate, tick

_MAX_RANGE = 10_000  # numbers; templates count messages
_MAX_NAMES = 1000  # in one template; Jinja copies them for every branch
_MAX_CODE = 512 * 1024  # characters of Python, which compiling takes about 0.5 s for; a template of 17 KB makes 150 K
_MAX_CLOCK_FORMAT = 200  # characters; the C library pads to the width that a format names

_FILTERS = (  # noqa: SIM905 - fifty words
    "abs attr capitalize center count d default dictsort e escape first float forceescape groupby indent int items last"
    " length list lower map max min reject rejectattr replace reverse round safe select selectattr sort string sum"
    " title trim truncate unique upper"
).split()
_TEXT_METHODS = (  # noqa: SIM905
    "capitalize casefold center count endswith find format format_map index isalnum isalpha isascii isdecimal isdigit"
    " islower isnumeric isspace istitle isupper join ljust lower lstrip partition removeprefix removesuffix replace"
    " rfind rindex rjust rpartition rsplit rstrip split splitlines startswith strip swapcase title upper zfill"
).split()
_METHODS: Mapping[type, frozenset[str]] = {
    str: frozenset(_TEXT_METHODS),
    dict: frozenset({"copy", "get", "items", "keys", "values"}),
    list: frozenset({"copy", "count", "index"}),
    tuple: frozenset({"count", "index"}),
}


class Refused(TemplateError):
    """The template called `raise_exception`."""


class BoundedEnvironment(ImmutableSandboxedEnvironment):
    """The environment of one template.

    Args:
        clock: what `strftime_now` reads.
    """

    intercepted_binops = frozenset({"+", "-", "*", "**", "%"})

    def __init__(self, clock: Callable[[], datetime]) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[Generation, "jinja2.ext.loopcontrols"],
            finalize=_printed,
        )
        self.concat = concatenate  # type: ignore[method-assign]  # Jinja's own is "".join
        self.admit, self.tick, self.concatenate = admit, tick, concatenate  # which `Instrument` calls
        self.binop_table |= {"*": multiply, "**": power, "%": modulo}
        self.tests = {name: _ticking(cast("Callable[..., Any]", test)) for name, test in TESTS.items()}
        self.filters = _filters()
        self.globals = {
            "dict": _Dict(),
            "namespace": _Namespace,
            "raise_exception": _raise_exception,
            "range": _range,
            "strftime_now": _strftime_now(clock),
        }

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:  # Any: whatever a template holds
        """Tell whether a template may read this attribute; of Python's own types, only the methods listed above."""
        for kind, methods in _METHODS.items():
            if isinstance(obj, kind) and (attr in methods or hasattr(kind, attr)):
                return attr in methods
        return type(obj).__module__ != "builtins" and super().is_safe_attribute(obj, attr, value)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:  # noqa: ARG002 - Jinja's
        """Compute `left operator right`."""
        return admit(self.binop_table[operator](left, right))

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805
        """Call what a template calls. Jinja's signature: a template's own keywords must not clash with ours."""
        if any(__obj is inserted for inserted in (tick, admit, concatenate)):
            return __obj(*args)
        text, name = getattr(__obj, "__self__", None), getattr(__obj, "__name__", "")
        if isinstance(text, str) and name in CHECKS:  # these methods of Python take no keywords
            CHECKS[name](text, *args)
        return admit(super().call(__context, __obj, *args, **kwargs))

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:  # Any: whatever attribute was read
        """Return a stand-in for the methods `format` and `format_map` of texts, and None for anything else."""
        if super().wrap_str_format(value) is None:
            return None
        formatter, text = BoundedFormatter(self), value.__self__

        def formatted(*args: Any, **kwargs: Any) -> str:  # the signature of str.format
            return formatter.vformat(text, args, kwargs)

        def formatted_by(mapping: Mapping[str, Any]) -> str:
            return formatter.vformat(text, (), mapping)

        return formatted if value.__name__ == "format" else formatted_by

    def compiled(self, source: str) -> jinja2.Template:
        """Return the template that a source is, with the checks in it."""
        tree = self.parse(source)
        if len({name.name for name in tree.find_all(nodes.Name)}) > _MAX_NAMES:
            raise BoundExceeded(f"it names more than {_MAX_NAMES:,} variables")
        code = self.compile(Instrument().visit(tree), raw=True)
        if len(code) > _MAX_CODE:
            raise BoundExceeded("it is too long to compile")
        return jinja2.Template.from_code(self, compile(code, "<template>", "exec"), self.make_globals(None))


class _Namespace(Namespace):
    """Jinja's `namespace`, which refuses names with an underscore as transformers' does, and prints short."""

    def __init__(*args: Any, **kwargs: Any) -> None:  # so that a template may name a variable `self`
        for name in dict(*args[1:], **kwargs):
            _check_name(name)
        Namespace.__init__(*args, **kwargs)

    def __setitem__(self, name: str, value: Any) -> None:  # Any: whatever a template holds
        _check_name(name)
        super().__setitem__(name, value)

    def __repr__(self) -> str:
        return "<Namespace>"


class _Dict:
    """What a template calls `dict`; the class itself would lead a template to its relatives."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:  # the signature of dict
        return dict(*args, **kwargs)

    def fromkeys(self, keys: Iterable[Any], value: Any = None) -> dict[Any, Any]:  # Any: whatever a template holds
        return dict.fromkeys(keys, value)


def _filters() -> dict[str, Callable[..., Any]]:  # Any: Jinja's filters take and return whatever a template holds
    named = {name: _admitting(FILTERS[name], CHECKS.get(name)) for name in _FILTERS}
    return named | {"tojson": _admitting(tojson), "format": _admitting(_format), "join": _join()}


def _admitting(filter_: Callable[..., Any], check: Callable[..., None] | None = None) -> Callable[..., Any]:
    """Return a filter that checks its arguments first and has its result admitted."""
    first = 1 if hasattr(filter_, "jinja_pass_arg") else 0  # such a filter is given its context before the value

    @functools.wraps(filter_)
    def admitting(*args: Any, **kwargs: Any) -> Any:
        if check:
            check(*args[first:], **kwargs)
        return admit(filter_(*args, **kwargs))

    return admitting


def _ticking(test: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(test)
    def ticking(*args: Any, **kwargs: Any) -> Any:  # Any: whatever a template tests
        return tick(test(*args, **kwargs))

    return ticking


def _join() -> Callable[..., Any]:  # Any: as for all filters
    joined = FILTERS["join"]

    @functools.wraps(joined)
    def join(context: Any, value: Any, d: str = "", attribute: str | int | None = None) -> Any:
        items = list(value)
        CHECKS["join"](d, admit(items))
        return admit(joined(context, items, d, attribute))

    return join


def _format(value: str, *args: Any, **kwargs: Any) -> str:  # Jinja's signature: what is formatted is the template's
    check_percent(value, kwargs or args)
    return str(FILTERS["format"](value, *args, **kwargs))


def _printed(value: Any) -> str:  # Any: whatever a template prints
    return value if type(value) is str else admit(str(value))


def _range(*args: int) -> range:
    numbers = range(*args)
    if len(numbers) > _MAX_RANGE:
        raise BoundExceeded(f"it counts further than {_MAX_RANGE:,}")
    return numbers


def _strftime_now(clock: Callable[[], datetime]) -> Callable[[str], str]:
    def strftime_now(format: str) -> str:  # noqa: A002 - transformers' name for it
        if len(format) > _MAX_CLOCK_FORMAT:
            raise BoundExceeded("it formats the date with a long format")
        check_percent(format, "")
        return clock().strftime(format)

    return strftime_now


def _raise_exception(message: Any) -> None:  # Any: whatever a template gives as a reason
    raise Refused(_printed(message))


def _check_name(name: Any) -> None:  # Any: whatever a template gives as a name
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"a namespace may not hold a name with an underscore at its beginning, such as {name!r}")
