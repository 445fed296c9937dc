"""Chat templates that mean harm each end soon, in `TemplateFailed` or in a prompt of bounded length.

They are this project's own. `given` is a long text, `words` a list of texts.
"""

import sys
import time

import pytest

from phiplug.errors import TemplateFailed
from phiplug.text.sandbox import Sandbox
from phiplug.text.sandbox.limits import OWN

_DEEP = 400  # deeper than Python recurses through Jinja's parser

ESCAPES = {
    "the class of a text": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "the class by subscript": "{{ ''['__class__']['__base__'] }}",
    "the class by filter": "{{ (''|attr('__class__'))|attr('mro') }}",
    "the class by a name put together": "{{ ''|attr('__cl' ~ 'ass__')|attr('__base__')|list }}",
    "the class by mapping a filter": "{{ ['']|map(attribute='__class__')|map(attribute='__mro__')|list }}",
    "the class within a format": "{{ '{0.__class__.__base__.__subclasses__}'.format('') }}",
    "the class within format_map": "{{ '{x.__class__.__mro__}'.format_map({'x': 1}) }}",
    "the format method taken elsewhere": "{{ ['{0.__class__.__mro__}']|map(attribute='format')|first|string ~ 1 }}",
    "the globals of a function": "{{ raise_exception.__globals__['__builtins__'] }}",
    "the globals of the clock": "{{ strftime_now.func.__globals__ ~ strftime_now.args }}",
    "the globals of a macro": "{% macro m() %}{% endmacro %}{{ m._func.__globals__ }}",
    "the frame of a generator": "{% set g = [1]|map('string') %}{{ g.gi_frame.f_globals.__builtins__ }}",
    "the environment through the loop": "{% for i in [1] %}{{ loop._recurse.__globals__ }}"
    "{{ loop.__init__.__globals__ }}{% endfor %}",
    "the context through self": "{{ self._TemplateReference__context.environment.filters }}",
    "the mapping behind a view": "{{ messages[0].items().mapping.__class__ }}",
    "a namespace that takes a class's place": "{% set n = namespace(__class__=1) %}{{ n }}",
    "a namespace's private attributes": "{% set n = namespace(a=1) %}{{ n._Namespace__attrs.__class__.__mro__ }}",
    "a namespace given an underscore later": "{% set n = namespace() %}{% set n.__init__ = 1 %}",
    "the messages changed": "{% set _ = messages[0].update({'role': 'system'}) %}{{ messages.clear() }}",
    "a file included": "{% include '/etc/passwd' %}",
    "a module imported": "{% from 'os' import system %}{{ system('id') }}",
    "the bytes of a number": "{{ (5).to_bytes(1000000000, 'little') }}",
    "the bytes of a text": "{{ ('a'.encode() * 9)|length }}",
}

LOOPS = {
    "nested ranges": "{% for a in range(9999) %}" * 4 + "{% endfor %}" * 4,
    "a range too far": "{% for a in range(10 ** 18) %}{% endfor %}",
    "a range of ranges": "{% for a in range(9999) %}{{ range(9999)|list|length }}{% endfor %}",
    "output without end": "{% for a in range(9999) %}{% for b in range(9999) %}{{ given }}{% endfor %}{% endfor %}",
    "a captured block without end": "{% set x %}{% for a in range(9999) %}{% for b in range(9999) %}{{ given }}"
    "{% endfor %}{% endfor %}{% endset %}",
    "numbers printed without end": "{% for a in range(9999) %}{% for b in range(9999) %}{{ words }}"
    "{% endfor %}{% endfor %}",
    "a macro that calls itself": "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "a macro that calls itself twice": "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}"
    "{{ m(60) }}",
    "a loop that calls itself": "{% for a in [[[]]] recursive %}{{ loop([a]) }}{% endfor %}",
    "generators on generators": "{% set n = namespace(g=range(9999)|list) %}{% for a in range(9999) %}"
    "{% set n.g = n.g|map('abs') %}{% endfor %}{{ n.g|list }}",
    "a loop left again and again": "{% for a in range(9999) %}{% for b in range(9999) %}"
    "{% for c in words|map('upper') %}{% break %}{% endfor %}{% endfor %}{% endfor %}",
    "sorting without end": "{% for a in range(9999) %}{{ (words * 20)|sort|unique|list|length }}{% endfor %}",
}

LARGE = {
    "a text multiplied": "{{ 'a' * 10 ** 10 }}",
    "a text multiplied from the left": "{{ 10 ** 10 * 'a' }}",
    "a text multiplied in steps": "{% set a = 'a' * 99999 %}{% set b = a * 99999 %}{{ b * 99999 }}",
    "a list multiplied": "{{ ([1, 2] * 10 ** 10)|length }}",
    "a power": "{{ 9 ** (9 ** 9) }}",
    "a product that grows": "{% set n = namespace(x=3) %}{% for a in range(9999) %}{% set n.x = n.x * n.x %}"
    "{% endfor %}",
    "a namespace that doubles by +": "{% set n = namespace(x='ab') %}{% for a in range(99) %}{% set n.x = n.x + n.x %}"
    "{% endfor %}{{ n.x }}",
    "a namespace that doubles by ~": "{% set n = namespace(x='ab') %}{% for a in range(99) %}{% set n.x = n.x ~ n.x %}"
    "{% endfor %}{{ n.x }}",
    "a block that doubles": "{% set x = 'ab' %}" + "{% set x %}{{ x }}{{ x }}{% endset %}" * 60 + "{{ x }}",
    "a macro that doubles": "{% macro m(x) %}{{ x }}{{ x }}{% endmacro %}{{ " + "m(" * 40 + "'ab'" + ")" * 40 + " }}",
    "a list that doubles": "{% set n = namespace(x=[1]) %}{% for a in range(99) %}{% set n.x = n.x + n.x %}"
    "{% endfor %}",
    "a list within a list twice": "{% set n = namespace(x=[1]) %}{% for a in range(60) %}{% set n.x = [n.x, n.x] %}"
    "{% endfor %}{{ n.x }}",
    "two such lists compared": "{% set n = namespace(x=[1], y=[1]) %}{% for a in range(60) %}"
    "{% set n.x = [n.x, n.x] %}{% set n.y = [n.y, n.y] %}{% endfor %}{{ n.x == n.y }}",
    "a dict within a dict twice": "{% set n = namespace(x={}) %}{% for a in range(60) %}"
    "{% set n.x = dict(a=n.x, b=n.x) %}{% endfor %}{{ n.x|tojson }}",
    "a tuple within a tuple twice, as a key": "{% set n = namespace(x=()) %}{% for a in range(60) %}"
    "{% set n.x = (n.x, n.x) %}{% endfor %}{{ {n.x: 1} }}",
    "tuples nested deeply, as a key": "{% set n = namespace(x=()) %}{% for a in range(9999) %}{% for b in range(99) %}"
    "{% set n.x = (n.x,) %}{% endfor %}{% endfor %}{{ {n.x: 1} }}",
    "a view within a list twice": "{% set n = namespace(x={'a': given}) %}{% for a in range(60) %}"
    "{% set n.x = dict(a=n.x.items(), b=n.x.values()) %}{% endfor %}{{ n.x }}",
    "many texts kept": "{% set n = namespace(x=[]) %}{% for a in range(9999) %}"
    "{% set n.x = n.x + [given ~ a] %}{% endfor %}",
    "many slices kept": "{% set n = namespace(x=[]) %}{% for a in range(9999) %}{% set n.x = [given[a:], n] %}"
    "{% set n = namespace(x=n.x) %}{% endfor %}",
    "a long join": "{{ (words * 500)|join(given) }}",
    "a long join by the method": "{{ given.join(words * 500) }}",
    "a long join of a generator": "{{ given.join((words * 500)|map('upper')) }}",
    "a long replacement": "{{ given|replace('', given) }}",
    "a long replacement by the method": "{{ given.replace('a', given) }}",
    "a text taken apart and multiplied": "{{ (given|list) * 1000 }}",
    "escapes of escapes": "{% set n = namespace(x='<') %}{% for a in range(99) %}"
    "{% set n.x = (n.x ~ '&' * 99)|e|string|forceescape|e %}{% endfor %}{{ n.x }}",
    "a filter that centers": "{{ 'a'|center(10 ** 10) }}",
    "a filter that indents": "{{ (given|list|join('\n'))|indent(10 ** 9) }}",
    "a filter that indents by a text": "{{ ('a\n' * 9999)|indent(given) }}",
    "a filter that rounds": "{{ 5|round(10 ** 9, 'ceil') }}{{ 5|round(-(10 ** 9)) }}",
    "a filter that batches": "{{ [1]|batch(10 ** 10, 'x')|list }}",
    "a filter that slices": "{{ [1]|slice(10 ** 10)|list }}",
    "a filter that adds up lists": "{{ ([words] * 5000)|sum(start=[]) }}",
    "a filter that looks for links": "{{ ('www.' * 50000)|urlize }}",
    "a filter that talks": "{{ lipsum(n=10 ** 6) }}{{ cycler(1) }}{{ joiner() }}",
    "a method that pads": "{{ 'a'.ljust(10 ** 10) }}{{ 'a'.center(10 ** 10) }}{{ '1'.zfill(10 ** 10) }}",
    "a method that expands tabs": "{{ '\t'.expandtabs(10 ** 10) }}",
    "a method that translates": "{{ given.translate({97: given}) }}",
    "a method that strips by many characters": "{{ given.strip(given) }}"
    "{{ ('b' ~ 'a' * 200000).lstrip('c' * 200000 ~ 'ab') }}",
    "a wide field": "{{ '{:1000000000}'.format(1) }}",
    "a wide field within a field": "{{ '{:{}}'.format(1, 10 ** 9) }}",
    "a wide field of the older kind": "{{ '%1000000000d' % 1 }}",
    "a wide field of the older kind by an argument": "{{ '%*d' % (10 ** 9, 1) }}",
    "a wide field of the older kind by name": "{{ '%(a(b))1000000000d' % {'a(b)': 1} }}",
    "a wide field in a filter": "{{ '%1000000000d'|format(1) }}{{ '%.1000000000f'|format(1.0) }}",
    "one field many times": "{{ ('{0}' * 9999).format(given) }}",
    "one field many times, the older way": "{{ ('%(a)s' * 9999) % {'a': given} }}",
    "a wide date": "{{ strftime_now('%1000000000d') }}",
    "a long date": "{{ strftime_now('%c' * 99999) }}",
    "wide JSON": "{{ messages|tojson(indent=10 ** 10) }}",
    "JSON with long separators": "{{ (words * 99)|tojson(separators=(given, given)) }}",
    "a long number": "{{ 'f' * 200000|int(base=16) }}{{ ('f' * 200000)|int(base=16) * 9 }}",
    "a long fraction": "{{ ('9' * 200000)|float }}{{ ('9' * 200000)|int }}",
    "a long refusal": "{{ raise_exception(given * 2) }}",
    "a long name": "{{ messages[given] }}{{ messages[given].x }}",
}

SYNTAX = {
    "no end": "{% for a in messages %}",
    "no beginning": "{% endfor %}",
    "no such filter": "{{ messages|nothing }}",
    "no such tag": "{% do messages.append(1) %}",
    "only brackets": "{" * 200_000,
    "deep parentheses": "{{ " + "(" * _DEEP + "1" + ")" * _DEEP + " }}",
    "deep lists": "{{ " + "[" * _DEEP + "1" + "]" * _DEEP + " }}",
    "deep signs": "{{ " + "-" * _DEEP * 9 + "1 }}",
    "deep blocks": "{% if 1 %}" * _DEEP + "{% endif %}" * _DEEP,
    "deep loops": "{% for a in [1] %}" * 30 + "{% endfor %}" * 30,
    "long sums": "{{ 1" + " + 1" * 9999 + " }}",
    "long chains of filters": "{{ 1" + "|e" * 9999 + " }}",
    "long chains of attributes": "{{ a" + ".a" * 9999 + " }}",
    "long chains of branches": "{% if a %}" + "{% elif a %}" * 9999 + "{% endif %}",
    "long chains of comparisons": "{{ 1" + " < 1" * 50_000 + " }}",
    "a long list": "{{ [" + "1," * 120_000 + "] }}",
    "many blocks": "{% if a %}{% endif %}" * 12_000,
    "many outputs": "{{ a }}" * 37_000,
    "many macros": "{% macro a() %}{% endmacro %}" * 9_000,
    "a long number": "{{ 1" + "0" * 200_000 + " }}",
    "a source that is too long": "a" * 300_000,
    "spaces": " " * 250_000 + "{{ 1 }}",
    "a text of escapes": "{{ '" + "\\n" * 99_999 + "' }}",
}

HOSTILE = {
    f"{kind}: {name}": source
    for kind, sources in (("escape", ESCAPES), ("loop", LOOPS), ("large", LARGE), ("syntax", SYNTAX))
    for name, source in sources.items()
}

HUGE = {  # for 5 MB of messages
    "printed": "{% for m in messages %}{{ m.content }}{% endfor %}",
    "printed again and again": "{% for a in range(9999) %}{{ messages[0].content }}{% endfor %}",
    "taken apart": "{% for m in messages %}{{ m.content.split(' ')|length }}{% endfor %}",
    "taken apart for ever": "{% for a in range(9999) %}{{ messages[0].content.split('x')|length }}{% endfor %}",
    "sliced for ever": "{% for a in range(9999) %}{{ messages[0].content[a:]|length }}{% endfor %}",
    "joined": "{{ messages|map(attribute='content')|join(messages[0].content) }}",
    "as JSON": "{{ messages|tojson(ensure_ascii=true) }}",
    "as JSON with spaces": "{{ messages|tojson(indent=99) }}",
    "stripped": "{{ messages[0].content.strip('x ' ~ 'abcdefghijklmnopqrstuvw' * 40)|length }}",
    "searched": "{{ messages[0].content.count('x' * 99 ~ 'y') }}{{ 'xxy' in messages[0].content }}",
    "centered": "{{ messages[0].content|center(20 * 10 ** 6) }}",
    "doubled": "{% set n = namespace(x=messages) %}{% for a in range(99) %}{% set n.x = [n.x, n.x] %}"
    "{% endfor %}{{ n.x }}",
}

TIME_LIMIT = 10.0  # seconds; the bound is 1, but the machine of a test may be busy with something else
LEAKS = ("<class", "<module", "root:", "uid=", "__builtins__")


@pytest.fixture(scope="module")
def durations():
    """How many seconds each template took, in the order of the tests of this file."""
    return []


def outcome(source, given, durations):
    """What rendering ends in: a prompt, or the message of a `TemplateFailed`."""
    start = time.perf_counter()
    try:
        ended = "prompt", Sandbox(source).render(given)
    except TemplateFailed as error:
        ended = "error", str(error)
    durations.append(time.perf_counter() - start)
    return ended


def check(ended, size):
    kind, text = ended
    assert not any(leak in text for leak in LEAKS)
    assert len(text) <= (OWN + 2 * size if kind == "prompt" else 600)
    assert kind == "prompt" or "\n" not in text


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_template_ends_soon_and_gives_nothing_away(name, durations):
    given = {"messages": [{"role": "user", "content": "hi"}], "given": "a" * 200_000, "words": ["ab"] * 500}
    check(outcome(HOSTILE[name], given, durations), size=210_000)
    assert durations[-1] < TIME_LIMIT
    assert given["messages"] == [{"role": "user", "content": "hi"}]


@pytest.mark.parametrize("name", HUGE)
def test_five_megabytes_of_messages_make_no_template_run_away(name, durations):
    given = {"messages": [{"role": "user", "content": "x " * 1_250_000}, {"role": "user", "content": "é" * 2_500_000}]}
    check(outcome(HUGE[name], given, durations), size=5_001_000)
    assert durations[-1] < TIME_LIMIT


def test_what_the_longest_took_is_printed(durations, capsys):
    if not durations:
        pytest.skip("no hostile template was rendered in this run")
    with capsys.disabled():
        sys.stdout.write(f"\n{len(durations)} hostile templates, the longest took {max(durations):.2f} s\n")
    assert max(durations) < TIME_LIMIT
