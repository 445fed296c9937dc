"""A template means what transformers makes it mean, and ends within its bounds, in whatever thread."""

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phiplug.errors import TemplateFailed
from phiplug.text.sandbox import MAX_SOURCE, Sandbox
from phiplug.text.sandbox.limits import OWN, BoundExceeded, Limits


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
def test_the_limits_know_about_how_long_a_value_prints(value):
    assert len(str(value)) <= 16 + 12 * Limits({}, 60).size_of(value)  # 12: a character may print as \U0001f999


@given(st.lists(NESTED, min_size=1, max_size=3), st.integers(2, 5))
def test_the_limits_count_a_value_as_often_as_it_is_held(value, times):
    limits = Limits({}, 60)
    assert limits.size_of([value] * times) >= times * limits.size_of(value)


def test_the_limits_measure_what_a_view_shows():
    limits = Limits({}, 60)
    mapping = {"key": "a" * 1000}
    assert limits.size_of(mapping.items()) == limits.size_of(mapping) >= 1000


def test_the_limits_refuse_deep_nesting():
    value = ()
    for _ in range(200):
        value = (value,)
    with pytest.raises(BoundExceeded, match="deep"):
        Limits({}, 60).admit(value)


def test_the_limits_add_up_what_was_made():
    limits = Limits({}, 60)
    with pytest.raises(BoundExceeded, match="together"):
        list(map(limits.admit, ["a" * OWN] * 1000))


def test_a_template_is_bounded_in_any_thread(monkeypatch):
    monkeypatch.setattr("phiplug.text.sandbox.render.MAX_SECONDS", 0.05)
    endless = "{% for a in range(9999) %}" * 3 + "{% endfor %}" * 3
    with ThreadPoolExecutor(4) as pool:
        refusals = [pool.submit(refused, endless) for _ in range(4)]
        fine = [pool.submit(rendered, "{{ x }}", x=number) for number in range(4)]
        assert [each.result() for each in fine] == ["0", "1", "2", "3"]
        assert all("took more than 0.05 s" in each.result() for each in refusals)


ENDLESS = {
    "comparisons": "{% for a in range(9999) %}{% for b in range(9999) %}{% if x < y %}{% endif %}{% endfor %}"
    "{% endfor %}",
    "tests in filters": "{% set n = namespace(g=range(9999)|list * 9) %}{% for a in range(300) %}"
    "{% set n.g = n.g|select('odd') %}{% endfor %}{{ n.g|list|length }}",
    "filters without a test": "{% set n = namespace(g=range(1, 9999)|list * 9) %}{% for a in range(300) %}"
    "{% set n.g = n.g|select %}{% endfor %}{{ n.g|list|length }}{{ n.g|list }}",
    "long divisions": "{{ 7 ** 99999 // 3 ** 9999 }}",
    "a search from the right": "{{ x.rfind('ab' ~ x[:100000]) }}{{ x.rsplit('ab' ~ x[:100000]) }}",
}


@pytest.mark.parametrize("source", ENDLESS.values(), ids=ENDLESS)
def test_what_takes_long_is_ended(source, monkeypatch):
    monkeypatch.setattr("phiplug.text.sandbox.render.MAX_SECONDS", 0.2)
    start = time.thread_time()
    with pytest.raises(TemplateFailed):
        rendered(source, x="a" * 200_000, y="a" * 200_000)
    assert time.thread_time() - start < 3


def test_a_template_of_many_names_is_not_compiled():
    source = "{% if a %}" + "".join(f"{{% elif a{number} %}}" for number in range(1200)) + "{% endif %}"
    assert "names more than 1,000 variables" in refused(source)
