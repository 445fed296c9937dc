"""Messages become the prompt that the model's own template makes of them, and nothing that is lost goes unsaid."""

import json
from datetime import datetime
from pathlib import Path

import pytest

from phiplug.errors import InvalidParameter, ModelCorrupt, TemplateFailed
from phiplug.spi import ModelFiles
from phiplug.text.template import ChatTemplate, find_template
from phiplug.types import Message

TEMPLATES = Path(__file__).parents[1] / "data" / "templates"
DATA = json.loads((TEMPLATES / "renders.json").read_text(encoding="utf-8"))
CONVERSATIONS = {name: [Message(*turn) for turn in turns] for name, turns in DATA["conversations"].items()}


def family(name):
    return ChatTemplate(
        (TEMPLATES / f"{name}.jinja").read_text(encoding="utf-8"),
        clock=lambda: datetime.fromisoformat(DATA["clock"]),
    )


def rendered(row):
    return family(row["template"]).render(
        CONVERSATIONS[row["conversation"]],
        special_tokens=DATA["special_tokens"],
        add_generation_prompt=row.get("add_generation_prompt", True),
        extra=row.get("extra"),
    )


def named(row):
    return f"{row['template']}-{row['conversation']}"


@pytest.mark.parametrize("row", [row for row in DATA["renders"] if "expected" in row], ids=named)
def test_each_family_of_templates_makes_its_prompt(row):
    prompt = rendered(row)
    assert prompt == row["expected"]
    messages = CONVERSATIONS[row["conversation"]]
    assert family(row["template"]).dropped(messages, prompt) == [messages[i] for i in row.get("dropped", [])]


@pytest.mark.parametrize("row", [row for row in DATA["renders"] if "refused" in row], ids=named)
def test_a_family_that_refuses_messages_says_why(row):
    with pytest.raises(TemplateFailed, match=f"refuses these messages: {row['refused']}"):
        rendered(row)


def test_variables_names_what_a_caller_may_give():
    assert family("qwen").variables() == ["add_generation_prompt", "enable_thinking", "messages", "tools"]


def test_what_phiplug_sets_itself_cannot_be_given():
    with pytest.raises(InvalidParameter, match="messages is set by phiplug"):
        family("chatml").render([], special_tokens={}, extra={"messages": []})


def dropped(rendered_text, *messages):
    lost = ChatTemplate("").dropped([Message(*message) for message in messages], rendered_text)
    return [message.role for message in lost]


def test_a_short_content_is_not_found_within_a_longer_one():
    assert dropped("<|user|>this is it", ("system", "is"), ("user", "this is it")) == ["system"]


def test_of_two_equal_contents_the_earlier_is_the_one_that_was_dropped():
    assert dropped("<|user|>Hello", ("system", "Hello"), ("user", "Hello")) == ["system"]


def test_an_empty_content_cannot_be_dropped():
    assert dropped("", ("system", " ")) == []


def test_a_content_that_became_json_was_not_dropped():
    assert dropped('{"text": "a \\"b\\"\\n"}', ("user", 'a "b"\nc')) == ["user"]
    assert dropped('{"text": "a \\"b\\"\\nc"}', ("user", 'a "b"\nc')) == []


def test_a_content_whose_reasoning_was_left_out_was_not_dropped():
    assert dropped("Hi", ("assistant", "<think>Hm</think>\n\nHi")) == []


def test_the_template_of_a_gguf_is_in_its_metadata(smollm2):
    source = find_template(ModelFiles("smollm2", smollm2, "gguf"))
    prompt = ChatTemplate(source).render([Message("user", "Hello")], special_tokens={})
    assert prompt.endswith("<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n")


def of_folder(folder, **files):
    for name, content in files.items():
        (folder / name.replace("_jinja", ".jinja").replace("_json", ".json")).write_bytes(content)
    return find_template(ModelFiles(str(folder), folder, "folder"))


def config(template):
    return json.dumps({"chat_template": template}).encode()


def test_the_template_of_a_folder_is_a_file_or_else_an_entry_of_the_tokenizers_configuration(tmp_path):
    assert of_folder(tmp_path) is None
    assert of_folder(tmp_path, tokenizer_config_json=b"{}") is None
    assert of_folder(tmp_path, tokenizer_config_json=config("entry")) == "entry"
    assert of_folder(tmp_path, chat_template_jinja=b"file\n") == "file\n"


def test_of_several_templates_the_default_is_taken(tmp_path):
    named_templates = [{"name": "tool_use", "template": "a"}, {"name": "default", "template": "b"}]
    assert of_folder(tmp_path, tokenizer_config_json=config(named_templates)) == "b"


def test_several_templates_without_a_default_are_listed(tmp_path):
    with pytest.raises(TemplateFailed, match=r"\(rag, tool_use\).*`chat_template`"):
        of_folder(
            tmp_path, tokenizer_config_json=config([{"name": name, "template": ""} for name in ("tool_use", "rag")])
        )


@pytest.mark.parametrize("content", [b"{", b"\xff", config(5), b"[" * 100_000])
def test_a_configuration_that_cannot_be_read_is_said_to_be_corrupt(tmp_path, content):
    with pytest.raises(ModelCorrupt, match=r"tokenizer_config\.json"):
        of_folder(tmp_path, tokenizer_config_json=content)


def test_a_format_that_a_plugin_made_up_has_no_template_of_ours(tmp_path):
    assert find_template(ModelFiles("x", tmp_path, "onnx")) is None
