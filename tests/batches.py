"""Batches over the toy model: lines that are right, and lines that are wrong in many ways."""

from __future__ import annotations

import json

from phiplug.batch.asking import Asking, Terms
from phiplug.batch.running import Run
from phiplug.batch.source import Line, digest_of
from phiplug.batch.tasks import CHAT, TEXT, TaskReader
from phiplug.engine import Engine
from phiplug.llm import LLM
from phiplug.spi import LoadOptions, ModelFiles
from phiplug.text.template import ChatTemplate
from phiplug_toy import CHAT_TEMPLATE, CORPUS
from phiplug_toy.model import load
from phiplug_toy.tokenizer import ByteTokenizer

SCHEMA = {"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"], "additionalProperties": False}
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}


def llm(*, slots=4, ctx_size=512, model=None):
    files = ModelFiles("toy", CORPUS, "toy")
    engine = Engine(model or load(files, LoadOptions(ctx_size=ctx_size, slots=slots)), ByteTokenizer(), backend="toy")
    return LLM(engine, ChatTemplate(CHAT_TEMPLATE), files=files, backend="toy")


def tasks(lines, *, raw=False):
    written = [each if isinstance(each, bytes) else json.dumps(each).encode() for each in lines]
    numbered = [Line(number, data, digest_of(data)) for number, data in enumerate(written, 1)]
    return TaskReader(raw=raw).read(numbered)


def run(lines, *, slots=4, raw=False, model=None, **terms):
    """Return a run over lines, and the iterator of its rows without the pauses between them."""
    model = model or llm(slots=slots)
    found = Run(model, Asking(model, Terms(**{"names": ("toy",), **terms})), tasks(lines, raw=raw))
    return found, (row for row in found.rows() if row is not None)


def rows(lines, **options):
    return list(run(lines, **options)[1])


def good(count):
    """Lines of several forms that can be computed."""
    forms = [
        lambda at: {"prompt": f"Tell {at}", "max_tokens": 3 + at % 5},
        lambda at: {"messages": [{"role": "user", "content": f"Once {at}"}], "max_tokens": 4, "n": 2},
        lambda at: {"prompt": "The same", "max_tokens": 5, "temperature": 0},
        lambda at: enveloped(CHAT, messages=[{"role": "user", "content": "Hi"}], max_tokens=5, seed=at, logprobs=True),
        lambda at: enveloped(TEXT, prompt=["Once upon", f"a time {at}"], max_tokens=4, echo=True, logprobs=1),
        lambda at: enveloped(TEXT, prompt=f"Once upon a time there was {at % 3}", max_tokens=6, stop=["e"]),
    ]
    return [{"custom_id": f"good-{at}", **forms[at % len(forms)](at)} for at in range(count)]


def enveloped(url, **body):
    return {"method": "POST", "url": url, "body": {"model": "toy", **body}}


def _chat(**fields):
    return enveloped(CHAT, **{"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2, **fields})


BAD = {
    "the line is empty": b"",
    "the line is not JSON": b"{",
    "the line is list": b"[]",
    "the line is not UTF-8": b'{"prompt": "\xff"}',
    "the name 'prompt' comes twice": b'{"prompt": "a", "prompt": "b"}',
    "NaN is not JSON": b'{"prompt": "a", "temperature": NaN}',
    "nested too deeply": b'{"prompt": ' + b"[" * 20_000,
    "prompt: str is not text|lone surrogate": b'{"prompt": "\\udc00"}',
    "either prompt or messages": {"max_tokens": 3},
    "prompt: is empty": {"prompt": ""},
    "custom_id: int is not text": {"custom_id": 4, "prompt": "a"},
    "custom_id: its 0 characters": {"custom_id": "", "prompt": "a"},
    "custom_id is missing": {**_chat(), "custom_id": None},
    "method: only": {**_chat(), "method": "PUT"},
    "url: '/v1/images' is not served": {**_chat(), "url": "/v1/images"},
    "body: 7 is not an object": {**_chat(), "body": 7},
    "url is missing": {"method": "POST", "body": {}},
    "temprature is not a field": {"prompt": "a", "temprature": 1},
    "temperature: 9": {"prompt": "a", "temperature": 9},
    "max_tokens: 'x' is not an integer": {"prompt": "a", "max_tokens": "x"},
    "not by 'gpt-4o'": _chat(model="gpt-4o"),
    "not by 'mlx'": _chat(backend="mlx"),
    "stream: a batch": _chat(stream=True),
    "messages: is empty": _chat(messages=[]),
    "messages[0].role": _chat(messages=[{"role": "nobody", "content": "a"}]),
    "messages[0].content is missing": _chat(messages=[{"role": "user"}]),
    "tokens long": _chat(messages=[{"role": "user", "content": "a" * 5000}]),
    "logit_bias: 9999 is outside": _chat(logit_bias={"9999": 1}),
    "max_tokens: 0 needs": enveloped(TEXT, prompt="a", max_tokens=0),
    "best_of: is not n": enveloped(TEXT, prompt="a", best_of=3),
    "outside the vocabulary": enveloped(TEXT, prompt=[70000]),
    "response_format": _chat(response_format={"type": "xml"}),
}
"""What an error says -> a line that has it, in the order of OpenAI's form where it is one; ids are added to some."""


def bad(count):
    """Lines that are wrong, each with what its error says."""
    kinds = list(BAD.items())
    found = []
    for at in range(count):
        said, line = kinds[at % len(kinds)]
        if isinstance(line, dict) and "custom_id" not in line:
            line = {"custom_id": f"bad-{at}", **line}
        found.append((said, line))
    return found
