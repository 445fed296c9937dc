"""`phiplug models` as a user types it, with a hub of our own."""

from __future__ import annotations

import json
import subprocess
import sys

import huggingface_hub
import pytest
from fake_hub import FakeHub
from huggingface_hub import constants
from tiny import byte_tokens, write_llama

KEYS = {"reference", "path", "format", "metadata", "tokenizer", "template", "backends", "problems"}


@pytest.fixture(scope="module", autouse=True)
def session():
    yield
    huggingface_hub.close_session()


@pytest.fixture
def tiny_gguf(tmp_path):
    return write_llama(tmp_path / "tiny.gguf", byte_tokens())


@pytest.fixture
def hub(tmp_path, tiny_gguf, monkeypatch):
    hub = FakeHub()
    hub.add("acme/tiny", {"tiny-q4.gguf": tiny_gguf.read_bytes()})
    monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    yield hub
    hub.close()


def info(phiplug, *arguments):
    ran = phiplug("models", "info", *arguments, "--json")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.count("\n") == 1
    report = json.loads(ran.out)
    assert set(report) == KEYS
    return report


def listed(phiplug):
    ran = phiplug("models", "list", "--json")
    assert (ran.code, ran.err) == (0, "")
    return {row["reference"]: row for row in json.loads(ran.out)}


def test_a_model_is_pulled_listed_looked_into_and_removed(phiplug, hub, tmp_path):
    pulled = phiplug("models", "pull", "hf:acme/tiny")
    assert pulled.out.startswith(str(tmp_path / "hub"))
    assert pulled.err.startswith("fetching tiny-q4.gguf (")
    again = phiplug("models", "pull", "hf:acme/tiny")
    assert (again.out, again.err) == (pulled.out, "")
    row = listed(phiplug)["hf:acme/tiny/tiny-q4.gguf"]
    assert (row["quantization"], row["place"], row["problem"]) == ("F32", "cache", None)
    assert info(phiplug, "hf:acme/tiny")["metadata"]["size"] == row["size"]
    removed = phiplug("models", "rm", "hf:acme/tiny")
    assert (removed.code, removed.out) == (0, "")
    assert "hf:acme/tiny is removed; " in removed.err
    assert "hf:acme/tiny/tiny-q4.gguf" not in listed(phiplug)


def test_a_download_is_a_bar_where_stderr_is_a_terminal(phiplug, hub, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "100")
    said = phiplug("models", "pull", "hf:acme/tiny").err
    assert "tiny-q4.gguf" in said
    assert "\u2501" in said
    assert "kB" in said


def test_to_look_into_a_model_is_no_reason_to_fetch_it(phiplug, hub):
    for reference in ("hf:acme/tiny", "phi-3-mini"):
        ran = phiplug("models", "info", reference)
        assert (ran.code, ran.out) == (1, "")
        assert f"{reference} is not on this machine (`phiplug models pull {reference}` fetches it)" in ran.err
    assert hub.listings == 0


WRONG = {
    "a misspelt name": (["info", "smolm2"], 1, "did you mean smollm2?"),
    "a missing file": (["info", "./none.gguf"], 1, "there is no file ./none.gguf"),
    "a model that is not there to remove": (["rm", "hf:acme/none"], 1, "is not in the cache"),
    "a file to remove": (["rm", "./none.gguf"], 2, "does not name a model in the hub's cache"),
    "a model that no hub has": (["pull", "hf:acme/none"], 1, "hf:acme/none"),
    "no such template": (["info", "toy", "--chat-template", "none.jinja"], 2, "none.jinja cannot be read"),
}


@pytest.mark.parametrize(("arguments", "code", "said"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_done_gets_one_typed_line(phiplug, hub, arguments, code, said):
    ran = phiplug("models", *arguments)
    assert (ran.code, ran.out) == (code, "")
    assert ran.err.startswith("error: ")
    assert said in ran.err
    assert ran.err.count("\n") == 1


def test_a_real_model_says_what_it_is(phiplug, smollm2):
    report = info(phiplug, str(smollm2))
    assert report["metadata"]["parameters"] == 134_515_008
    assert report["tokenizer"]["stop_ids"] == {"0": "<|endoftext|>", "2": "<|im_end|>", "4": "<reponame>"}
    assert {"llama-cpp", "mlx"} <= set(report["backends"])
    assert report["template"]["variables"] == ["add_generation_prompt", "messages"]
    assert "<|im_start|>user\nWrite a line about ice.<|im_end|>\n" in report["template"]["preview"]["text"]
    assert report["problems"] == []


def test_the_ids_of_the_sample_are_those_that_a_model_is_given(phiplug, smollm2):
    from phiplug.gguf import read_header
    from phiplug.text.tokenizer import tokenizer_of

    seen = info(phiplug, str(smollm2))["template"]["preview"]
    assert seen["ids"] == tokenizer_of(read_header(smollm2)).encode(seen["text"])


def test_info_shows_the_same_to_people(phiplug, smollm2):
    shown = phiplug("models", "info", str(smollm2)).out
    for said in ("llama, 30 layers", "135 million", "Q4_1, 5.74 bits", "8192 tokens", "2 <|im_end|>", "apache-2.0"):
        assert said in shown
    assert "\u2502 <|im_start|>user\n" in shown


def test_template_shows_the_source_the_variables_the_prompt_and_the_ids(phiplug, smollm2):
    shown = phiplug("models", "info", str(smollm2), "--template").out
    assert "{% for message in messages %}" in shown
    assert "reads  add_generation_prompt, messages\n" in shown
    assert "\u2502 You are a poet.<|im_end|>\n" in shown
    assert "51 ids  1 9690 198" in shown


def test_a_model_of_a_plugins_own_format_is_looked_into_too(phiplug):
    report = info(phiplug, "toy")
    assert (report["format"], report["backends"]) == ("toy", ["toy"])
    assert report["template"]["preview"]["ids"][0] == report["tokenizer"]["bos_id"]


def test_a_template_with_faults_is_shown_with_its_warnings(phiplug, tmp_path):
    source = "{{ bos_token }}{{ bos_token }}{% for m in messages if m.role != 'system' %}{{ m.content }}{% endfor %}"
    (tmp_path / "odd.jinja").write_text(source)
    shown = phiplug("models", "info", "toy", "--template", "--chat-template", str(tmp_path / "odd.jinja")).out
    assert "the template drops the system message\n" in shown
    assert "the template begins with two BOS tokens; " in shown


def test_a_template_that_is_invalid_hides_nothing_else(phiplug, smollm2, tmp_path):
    (tmp_path / "broken.jinja").write_text("{% for %}")
    broken = (str(smollm2), "--chat-template", str(tmp_path / "broken.jinja"))
    report = info(phiplug, *broken)
    assert report["metadata"]["parameters"] == 134_515_008
    nothing = dict.fromkeys(("variables", "preview", "reasoning", "tools"))
    assert report["template"] == {"source": "{% for %}", **nothing}
    assert "[TemplateFailed]" in report["problems"][0]
    assert phiplug("models", "info", *broken).code == phiplug("models", "info", *broken, "--template").code == 0


def test_the_forms_of_reasoning_and_of_calls_are_shown(phiplug, tmp_path):
    (tmp_path / "t.jinja").write_text('{{ messages[0].content }}{# <think> </think> <tool_call> "arguments" #}')
    flags = ("toy", "--chat-template", str(tmp_path / "t.jinja"))
    report = info(phiplug, *flags)["template"]
    assert (report["reasoning"], report["tools"]) == (["<think>", "</think>"], "hermes")
    shown = phiplug("models", "info", *flags).out
    assert "<think> ... </think>" in shown
    assert "called as hermes does" in shown


def test_a_tokenizer_that_is_not_known_hides_nothing_else(phiplug, tmp_path):
    path = write_llama(tmp_path / "odd.gguf", byte_tokens())
    path.write_bytes(path.read_bytes().replace(b"\x05\0\0\0\0\0\0\0gpt-2", b"\x05\0\0\0\0\0\0\0gpt-9"))
    report = info(phiplug, str(path))
    assert report["tokenizer"] is None
    assert report["metadata"]["architecture"] == "llama"
    assert "gpt-9" in report["problems"][0]
    assert "[ModelUnsupported]" in phiplug("models", "info", str(path)).out


def test_a_model_without_a_template_says_how_to_give_one(phiplug, tiny_gguf):
    assert "chat template  none\n" in phiplug("models", "info", str(tiny_gguf)).out
    assert "give one with --chat-template" in phiplug("models", "info", str(tiny_gguf), "--template").out


def test_what_a_file_says_cannot_reach_the_terminal(phiplug, tmp_path):
    (tmp_path / "loud.jinja").write_text("\x1b[31m[red]{{ messages[1].content }}")
    shown = phiplug("models", "info", "toy", "--template", "--chat-template", str(tmp_path / "loud.jinja")).out
    assert "\x1b" not in shown
    assert "\\x1b[31m[red]Write a line about ice." in shown


def test_a_file_that_is_cut_off_is_listed_as_unreadable(phiplug, hub, tiny_gguf):
    hub.add("acme/cut", {"cut.gguf": tiny_gguf.read_bytes()[:-100]})
    phiplug("models", "pull", "hf:acme/cut")
    assert "is cut off" in listed(phiplug)["hf:acme/cut/cut.gguf"]["problem"]
    shown = phiplug("models", "list")
    assert shown.code == 0
    assert "unreadable" in shown.out


def test_what_is_known_and_not_here_is_named_after_the_list(phiplug, hub, smollm2):
    shown = phiplug("models", "list")
    assert "smollm2" in shown.out
    assert "apache-2.0" in shown.out
    assert "phi-3-mini" in shown.err


def test_to_look_into_a_model_imports_no_engine(smollm2):
    script = (
        f"import sys; sys.argv = ['phiplug', 'models', 'info', {str(smollm2)!r}]\n"
        "from phiplug.cli import main\n"
        "try: main()\n"
        "except SystemExit: print({'mlx', 'mlx_lm', 'llama_cpp', 'transformers', 'torch'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("set()\n")
