"""A template means what transformers makes it mean, and ends within its bounds; a deadline ends nothing but its own."""

import _thread
import random
import signal
import sys
import threading
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phiplug.errors import TemplateFailed
from phiplug.text.sandbox import MAX_SOURCE, Sandbox
from phiplug.text.sandbox.deadline import OutOfTime, within
from phiplug.text.sandbox.ledger import OWN, BoundExceeded, Ledger


def rendered(source, **variables):
    return Sandbox(source).render(variables)


def refused(source, **variables):
    with pytest.raises(TemplateFailed) as caught:
        rendered(source, **variables)
    return str(caught.value)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{% if true %}\n  yes\n{% endif %}\n", "  yes\n"),
        ("{% for i in [1, 2, 3] %}{% if i == 2 %}{% continue %}{% endif %}{{ i }}{% endfor %}", "13"),
        ("{% for i in [1, 2, 3] %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}", "1"),
        ("a{% generation %}{% set x = 'b' %}{{ x }}{% endgeneration %}{{ x }}c", "abc"),
        ("{% for i in [1, 2] %}{% generation %}{{ loop.index }}{% endgeneration %}{% endfor %}", "12"),
        ("[{{ nothing }}]", "[]"),
        ("{{ none }} {{ true }} {{ 1.0 }} {{ ['a', 1] }}", "None True 1.0 ['a', 1]"),
        ("{{ {'b': '<é>', 'a': [1, none]}|tojson }}", '{"b": "<é>", "a": [1, null]}'),
        ("{{ 'é'|tojson(ensure_ascii=true) }}", '"\\u00e9"'),
        ("{{ {'a': [1]}|tojson(indent=1) }}", '{\n "a": [\n  1\n ]\n}'),
        ("{{ {'b': 1, 'a': 2}|tojson(separators=(',', ':'), sort_keys=true) }}", '{"a":2,"b":1}'),
        ("{% set n = namespace(a=1) %}{% for i in [1, 2] %}{% set n.a = n.a + i %}{% endfor %}{{ n.a }}", "4"),
        ("{{ dict(a=1).items()|list }}{{ dict.fromkeys(['x']) }}", "[('a', 1)]{'x': None}"),
        ("{{ 'a' ~ 1 ~ none }}", "a1None"),
        ("{{ 'abcdef'[1:3] }}{{ [1, 2, 3][::-1] }}", "bc[3, 2, 1]"),
        ("{{ '%s-%03d' % ('a', 7) }} {{ '{:>3}{x}'.format(1, x=2) }} {{ '{a}'.format_map({'a': 1}) }}", "a-007   12 1"),
        ("{{ 'a\nb'|indent(2) }} {{ 'a'|center(5) }} {{ 2.345|round(2) }} {{ [1, 2]|sum }}", "a\n  b   a   2.35 3"),
        ("{{ ['a', 'b']|map('upper')|join(', ') }}", "A, B"),
        (
            "{% macro m(x) %}<{{ x }}{{ caller() if caller }}>{% endmacro %}{{ m(1) }}{% call m(2) %}!{% endcall %}",
            "<1><2!>",
        ),
        ("{{ (1, 2)|last }}{% for a, b in [(1, 2)] %}{{ a }}{{ b }}{% endfor %}", "212"),
    ],
)
def test_templates_mean_what_transformers_makes_of_them(source, expected):
    assert rendered(source) == expected


def test_text_is_not_escaped():
    assert rendered("{{ x }}", x='<a> & "b"') == '<a> & "b"'


def test_the_clock_is_an_argument():
    sandbox = Sandbox("{{ strftime_now('%d %b %Y') }}", clock=lambda: datetime(2024, 7, 26))  # noqa: DTZ001 - as now()
    assert sandbox.render({}) == "26 Jul 2024"


def test_a_subclass_of_text_is_reduced_to_text():
    class Loud(str):
        __slots__ = ()

        def shout(self):
            raise AssertionError

    assert rendered("{{ x }}{{ x.shout is defined }}", x=Loud("a")) == "aFalse"


def test_what_is_no_plain_json_type_is_not_given_to_a_template():
    assert "plain JSON" in refused("{{ x }}", x=object())


def test_a_template_that_refuses_says_why_in_its_own_words():
    assert refused("{{ raise_exception('Roles must alternate') }}").startswith(
        "the chat template refuses these messages: Roles must alternate"
    )


def test_a_syntax_error_waits_until_the_template_is_used_and_names_the_line():
    sandbox = Sandbox("\n{% if %}")
    with pytest.raises(TemplateFailed, match=r"invalid: .*\(line 2\).*`chat_template`"):
        sandbox.render({})


def test_an_undefined_variable_is_an_error_only_where_something_is_done_with_it():
    assert "'x' is undefined" in refused("{{ 'a' + x }}")


def test_a_source_that_is_too_long_is_not_compiled():
    assert f"{MAX_SOURCE:,} are allowed" in refused("a" * (MAX_SOURCE + 1))


def test_variables_are_what_a_template_reads_from_outside():
    sandbox = Sandbox("{% set a = 1 %}{% for m in messages %}{{ a ~ bos_token ~ strftime_now('') }}{% endfor %}")
    assert sandbox.variables() == ["bos_token", "messages"]


def test_a_prompt_may_be_as_long_as_what_it_is_made_of():
    assert len(rendered("{{ x }}{{ x }}", x="a" * 1_000_000)) == 2_000_000


def test_a_template_may_add_so_much_and_no_more():
    assert len(rendered(f"{{{{ 'a' * {OWN} }}}}")) == OWN
    assert "beyond its bounds" in refused(f"{{{{ 'a' * {OWN} }}}}" * 2)


def test_a_loop_without_end_is_ended(monkeypatch):
    monkeypatch.setattr("phiplug.text.sandbox.render.MAX_SECONDS", 0.05)
    assert "took more than 0.05 s" in refused("{% for a in range(9999) %}" * 3 + "{% endfor %}" * 3)


NESTED = st.recursive(
    st.text(max_size=5) | st.integers() | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=30,
)


@given(NESTED)
def test_the_ledger_knows_about_how_long_a_value_prints(value):
    assert len(str(value)) <= 16 + 12 * Ledger({}).size_of(value)  # 12: a character may print as \U0001f999


@given(st.lists(NESTED, min_size=1, max_size=3), st.integers(2, 5))
def test_the_ledger_counts_a_value_as_often_as_it_is_held(value, times):
    ledger = Ledger({})
    assert ledger.size_of([value] * times) >= times * ledger.size_of(value)


def test_the_ledger_measures_what_a_view_shows():
    ledger = Ledger({})
    mapping = {"key": "a" * 1000}
    assert ledger.size_of(mapping.items()) == ledger.size_of(mapping) >= 1000


def test_the_ledger_refuses_deep_nesting():
    value = ()
    for _ in range(200):
        value = (value,)
    with pytest.raises(BoundExceeded, match="deep"):
        Ledger({}).admit(value)


def test_the_ledger_adds_up_what_was_made():
    ledger = Ledger({})
    with pytest.raises(BoundExceeded, match="together"):
        list(map(ledger.admit, ["a" * OWN] * 1000))


def test_work_that_is_done_in_time_gives_its_result():
    assert within(60, lambda: 42) == 42


def test_what_the_work_raises_is_raised_where_it_was_asked_for():
    with pytest.raises(ZeroDivisionError):
        within(60, lambda: 1 / 0)


def endless(ended=None):
    try:
        while True:
            pass
    finally:
        if ended is not None:
            ended.append(True)


def test_work_that_takes_too_long_is_ended_and_not_only_left_alone():
    ended = []
    with pytest.raises(OutOfTime):
        within(0.01, lambda: endless(ended))
    assert ended


def test_work_that_swallows_the_exception_gets_another():
    def stubborn():
        try:
            endless()
        except OutOfTime:
            endless()

    threads = _thread._count()
    with pytest.raises(OutOfTime):
        within(0.01, stubborn)
    assert _thread._count() <= threads


def test_work_that_cannot_be_ended_is_left_alone():
    gate = threading.Lock()
    with gate, pytest.raises(OutOfTime):
        within(0.01, gate.acquire)  # waits in C


def test_an_interrupted_caller_takes_the_work_along():
    ended = []

    def interrupting():
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        endless(ended)

    with pytest.raises(KeyboardInterrupt):
        within(60, interrupting)
    assert ended


def test_the_exception_reaches_nobody_else_however_close_the_end():
    seeded = random.Random(0)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    outcomes = set()
    try:
        for _ in range(400):
            try:
                outcomes.add(within(seeded.uniform(0, 0.002), lambda: sum(i for i in range(10_000))))
            except OutOfTime:
                outcomes.add(None)
            sum(i for i in range(100))  # an exception that comes too late would be raised here
    finally:
        sys.setswitchinterval(interval)
    assert outcomes <= {None, 49_995_000}
