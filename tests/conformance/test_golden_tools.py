"""Tools, calls and results mean to a template what they mean to it in transformers; and to a real vocabulary."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import pytest
import tiny
from tool_formats import NOW, OUTPUTS, ROWS, VERDICTS, WEATHER, accepts
from varied import varied

from phiplug.gguf import read_header
from phiplug.markup import Markup, ToolUse
from phiplug.spi import ModelFiles
from phiplug.text.template import ChatTemplate
from phiplug.text.tokenizer import load_tokenizer, tokenizer_of
from phiplug.types import Message

SOURCE = Path(__file__).parents[3] / "shared" / "golden" / "chat_templates.json"
RECORDS = json.loads(SOURCE.read_text(encoding="utf-8"))["records"] if SOURCE.is_file() else []
NO_MESSAGES = (
    "ibm-granite/granite-4.0 (tool call)",
    "openbmb/MiniCPM3-4B",
    "zai-org/GLM-5.1",
    "meetkai/functionary-medium-v2.2",
)
"""Records whose messages have roles, entries or contents that no `Message` has, such as none at all."""
ROWS_WITH_TOOLS = [
    row
    for row in RECORDS
    if row["group"] in ("llamacpp_chat", "hfjs_chat", "rendered")
    and (row.get("tools") or "tool" in json.dumps(row.get("messages", "")))
    and not row["id"].endswith(NO_MESSAGES)
]


def messages(row):
    """The messages of a record as ours; those of transformers' examples have no ids, and their templates show none."""
    found, ids = [], []
    for message in row["messages"]:
        given = dict(message)
        if given.get("tool_calls"):
            calls = [call if "function" in call else {"function": call} for call in given["tool_calls"]]
            given["tool_calls"] = [{"id": f"abc12345{at}", **call} for at, call in enumerate(calls)]
            ids = [call["id"] for call in given["tool_calls"]]
        if given["role"] == "tool" and "tool_call_id" not in given:
            given["tool_call_id"] = ids.pop(0)
        found.append(Message.of(given))
    return found


@pytest.mark.parametrize("row", ROWS_WITH_TOOLS, ids=lambda row: row["id"])
def test_a_conversation_with_tools_renders_as_in_transformers(row):
    clock = datetime.fromisoformat(row.get("strftime_now_fixed", "2024-07-26"))
    extra = {name: value for name, value in row.get("context", {}).items() if name != "add_generation_prompt"}
    rendered = ChatTemplate(row["template"], clock=lambda: clock).render(
        messages(row),
        special_tokens={name: row[name] for name in ("bos_token", "eos_token") if name in row},
        add_generation_prompt=bool(row.get("add_generation_prompt")),
        extra=extra | ({"tools": row["tools"]} if row.get("tools") else {}),
    )
    assert rendered == row.get("hf_render", row.get("expected"))


@pytest.fixture(scope="module", params=["smollm2", "sentencepiece"])
def tokenizer(request, tmp_path_factory):
    if request.param == "smollm2":
        return load_tokenizer(ModelFiles("smollm2", request.getfixturevalue("smollm2"), "gguf"))
    tokens = tiny.trained_sentencepiece(varied(300, seed=1, more=("hello world",)), 700, {})
    path = tiny.write_vocabulary(tmp_path_factory.mktemp("vocabulary") / "vocabulary.gguf", tokens)
    return tokenizer_of(read_header(path))


@pytest.mark.parametrize("name", OUTPUTS)
def test_the_verdicts_are_those_of_a_vocabulary_of_bytes(tokenizer, name):
    if tokenizer.encode("\u2581") == tokenizer.encode(" ") and "\u2581" in OUTPUTS[name]:
        pytest.skip("SentencePiece cannot cut this text: it takes the low block for a space")
    given = Markup(tools=ToolUse(ROWS[name], (WEATHER, NOW), required=True))
    for change, holds in VERDICTS.values():
        assert accepts(tokenizer, given, change(OUTPUTS[name])) == holds
