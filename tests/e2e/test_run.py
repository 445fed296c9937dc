"""`phiplug run` as a user types it, on the toy backend: what is printed where, and what bad input gets."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from phiplug.cli.flags import SamplingFlags
from phiplug.types import SamplingParams

TOY = ("-b", "toy", "-n", "12", "--seed", "1")


def test_the_text_goes_to_stdout_and_a_line_of_statistics_to_stderr(phiplug):
    ran = phiplug("run", "hello", *TOY, "--usage")
    assert ran.code == 0
    assert ran.out.strip()
    assert ran.out.endswith("\n")
    assert ran.err.count("\n") == 1
    assert "new tokens" in ran.err
    assert "toy on cpu" in ran.err
    assert "seed 1" in ran.err


def test_json_is_one_line_with_everything(phiplug):
    ran = phiplug("run", "hello", *TOY, "--logit-bias", "65=1.5", "--json")
    report = json.loads(ran.out)
    assert ran.err == ""
    assert ran.out.count("\n") == 1
    assert set(report) == {
        *("text", "reasoning", "tool_calls", "tokens", "prompt_tokens", "prompt_ids", "finish_reason"),
        *("backend", "device", "threads", "guesses", "model", "sampling", "timings"),
    }
    assert set(report["model"]) == {"reference", "path", "sha256", "quantization", "metadata"}
    assert set(report["timings"]) == {"load_s", "ttft_s", "prefill_tps", "decode_tps"}
    assert report["prompt_tokens"] == len(report["prompt_ids"])
    assert report["sampling"]["seed"] == 1
    assert report["sampling"]["logit_bias"] == {"65": 1.5}


def test_guesses_change_no_text_and_are_counted(phiplug):
    without, ahead = (phiplug("run", "hello", *TOY, "--lookahead", mode, "--usage") for mode in ("off", "on"))
    assert without.out == ahead.out
    assert " right, 0 wrong" in ahead.err
    assert "guess" not in without.err
    report = json.loads(phiplug("run", "hello", *TOY, "--lookahead", "on", "--json").out)
    assert report["guesses"]["asked"] >= report["guesses"]["right"] > 0


def test_a_lookahead_that_is_none_is_refused(phiplug):
    refused = phiplug("run", "hello", *TOY, "--lookahead", "perhaps")
    assert refused.code == 2
    assert "'perhaps' is not one of 'auto', 'on', 'off'" in refused.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nope"], "error: no such command 'nope' (see phiplug --help) [UsageError]\n"),
        (["mdels"], "error: no such command 'mdels' (did you mean phiplug models?) [UsageError]\n"),
        (["models", "lst"], "error: no such command 'lst' (did you mean phiplug models list?) [UsageError]\n"),
        (["help", "rnu"], "error: no such command 'rnu' (did you mean phiplug run?) [UsageError]\n"),
        (["run"], "error: missing argument 'prompt' (see phiplug run --help) [UsageError]\n"),
        (["models", "nope"], "error: no such command 'nope' (see phiplug models --help) [UsageError]\n"),
    ],
)
def test_a_mistyped_command_line_is_one_line_as_any_error_is(phiplug, arguments, said):
    ran = phiplug(*arguments)
    assert (ran.code, ran.out, ran.err) == (2, "", said)


def test_without_a_command_there_is_the_help(phiplug):
    ran = phiplug()
    assert ran.code == 2
    assert "Commands:" in ran.out + ran.err


def test_the_dry_sampler_takes_its_breakers_as_ids(phiplug):
    dry = (
        "--sampling-dialect",
        "llama.cpp",
        "--dry-multiplier",
        "0.8",
        "--dry-breaker",
        "10",
        "--dry-breaker",
        "13,10",
    )
    report = json.loads(phiplug("run", "hello", *TOY, *dry, "--json").out)
    assert report["sampling"]["dry_breakers"] == [[10], [13, 10]]


def test_the_seed_that_was_drawn_is_reported_and_repeats_the_answer(phiplug):
    first = json.loads(phiplug("run", "hello", "-b", "toy", "-n", "20", "--json").out)
    again = json.loads(
        phiplug("run", "hello", "-b", "toy", "-n", "20", "--json", "--seed", str(first["sampling"]["seed"])).out
    )
    assert again["tokens"] == first["tokens"]


def test_the_defaults_of_the_flags_are_those_of_the_parameters(phiplug):
    flags = SamplingFlags(seed=1).params()
    assert flags == SamplingParams(seed=1)
    reported = json.loads(phiplug("run", "hello", *TOY, "--json").out)["sampling"]
    assert set(reported) == {field.name for field in fields(SamplingParams)}
    assert (reported["repeat_last_n"], reported["penalize_prompt"]) == (64, False)  # what None stands for


def test_no_stream_prints_the_same(phiplug):
    assert phiplug("run", "hello", *TOY).out == phiplug("run", "hello", *TOY, "--no-stream").out


def test_a_dash_reads_the_prompt_from_standard_input(phiplug):
    typed = json.loads(phiplug("run", "hello", *TOY, "--json").out)
    piped = json.loads(phiplug("run", "-", *TOY, "--json", stdin="hello").out)
    assert piped["prompt_ids"] == typed["prompt_ids"]


def test_standard_input_that_is_no_text_is_refused(tmp_path):
    process = spawn("run", "-", "-b", "toy", stdin=subprocess.PIPE)
    process.stdin.buffer.write(b"\xff\xfe hello")
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (2, "")
    assert err.startswith("error: prompt: ")  # strict decoding refuses it, or the lone surrogates that stand for it


def raw_ids(phiplug, *arguments, stdin=""):
    report = json.loads(phiplug("run", *arguments, *TOY, "--raw", "--json", stdin=stdin).out)
    return report["prompt_ids"]


def test_what_is_piped_comes_before_the_file_and_the_argument(phiplug, tmp_path):
    (tmp_path / "question.txt").write_text("in short\n", encoding="utf-8")
    file = ("-f", str(tmp_path / "question.txt"))
    assert raw_ids(phiplug, "sum up", stdin="a text\n") == raw_ids(phiplug, "a text\n\nsum up")
    assert raw_ids(phiplug, stdin="a text\n") == raw_ids(phiplug, "a text\n")
    assert raw_ids(phiplug, *file) == raw_ids(phiplug, "in short\n")
    assert raw_ids(phiplug, "please", *file, stdin="a") == raw_ids(phiplug, "a\n\nin short\n\nplease")


@pytest.mark.parametrize("at", ["", "@"])
def test_a_prompt_that_names_a_file_gets_a_hint(phiplug, tmp_path, monkeypatch, at):
    (tmp_path / "notes.txt").write_text("hello")
    monkeypatch.chdir(tmp_path)
    ran = phiplug("run", f"{at}notes.txt", *TOY)
    assert ran.code == 0
    assert ran.err.startswith("the prompt is the name of a file; -f notes.txt sends what is in it\n")
    for prompt in ("@alice hello", "x" * 300, "."):
        assert "-f" not in phiplug("run", prompt, *TOY).err


def test_standard_input_is_utf_8_whatever_the_locale_says(phiplug, monkeypatch):
    monkeypatch.setenv("PYTHONIOENCODING", "cp1252")
    assert raw_ids(phiplug, "-", stdin=b"\xef\xbb\xbf\xc3\xa9") == raw_ids(phiplug, "\u00e9")
    ran = phiplug("run", "-", *TOY, stdin="hello".encode("utf-16"))
    assert (ran.code, ran.out) == (2, "")
    assert "standard input is not UTF-8" in ran.err
    assert "it begins as UTF-16; save it as UTF-8" in ran.err


def test_the_file_of_a_prompt_that_cannot_be_read_is_named(phiplug):
    ran = phiplug("run", "-f", "none.txt", *TOY)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("error: file: none.txt cannot be read")


def test_a_pipe_gets_escape_sequences_as_they_are(phiplug):
    assert phiplug("run", "hello", *TOY, "--logit-bias", "27=1000").out == "\x1b" * 12 + "\n"


def test_a_stop_string_ends_the_answer(phiplug):
    text = json.loads(phiplug("run", "hello", *TOY, "--json").out)["text"]
    stopped = json.loads(phiplug("run", "hello", *TOY, "--json", "--stop", text[3:5]).out)
    assert stopped["text"] == text[: text.index(text[3:5])]
    assert stopped["finish_reason"] == "stop"


def answers(ran):
    return [(report["sampling"]["seed"], report["text"]) for report in json.loads(ran.out)]


def test_several_choices_have_seeds_that_follow_one_another(phiplug):
    several = answers(phiplug("run", "hello", *TOY, "--choices", "3", "--json"))
    alone = [
        json.loads(phiplug("run", "hello", "-b", "toy", "-n", "12", "--seed", str(n), "--json").out) for n in "123"
    ]
    assert several == [(report["sampling"]["seed"], report["text"]) for report in alone]


def test_more_choices_are_answered_than_are_computed_at_once(phiplug):
    assert len(answers(phiplug("run", "hello", *TOY, "--choices", "20", "--json"))) == 20


def test_choices_are_divided_by_rules_with_their_seeds(phiplug):
    several = answers(phiplug("run", "hello", *TOY, "--choices", "2", "--json"))
    ran = phiplug("run", "hello", *TOY, "--choices", "2", "--usage")
    assert ran.out == "".join(f"--- seed {seed} ---\n{text.rstrip(chr(10))}\n" for seed, text in several)
    assert [line.count("new tokens") for line in ran.err.splitlines()] == [1, 1]
    assert len(answers(phiplug("run", "hello", *TOY, "--choices", "1", "--json"))) == 1


def test_log_probabilities_are_a_table_on_stderr(phiplug):
    plain = phiplug("run", "hello", *TOY)
    ran = phiplug("run", "hello", *TOY, "--logprobs", "2")
    assert ran.out == plain.out
    heading, _, *rows = [line for line in ran.err.splitlines() if line.strip()][:-1]
    assert heading.split() == ["token", "probability", "likeliest"]
    assert len(rows) == 12
    assert all(row.count("%") == 3 for row in rows)
    alone = phiplug("run", "hello", *TOY, "--logprobs", "0").err
    assert alone.count("%") == 12
    assert "likeliest" not in alone


def test_log_probabilities_are_in_the_json_where_they_are_asked_for(phiplug):
    report = json.loads(phiplug("run", "hello", *TOY, "--logprobs", "2", "--json").out)
    assert [entry["token"] for entry in report["logprobs"]] == report["tokens"]
    assert b"".join(bytes(entry["bytes"]) for entry in report["logprobs"]).decode() == report["text"]
    for entry in report["logprobs"]:
        assert entry.keys() == {"token", "text", "bytes", "logprob", "top"}
        assert len(entry["top"]) == 2
        assert entry["logprob"] <= entry["top"][0]["logprob"] <= 0


def test_a_raw_prompt_meets_no_template(phiplug):
    raw = json.loads(phiplug("run", "hello", *TOY, "--json", "--raw").out)
    assert raw["prompt_tokens"] < json.loads(phiplug("run", "hello", *TOY, "--json").out)["prompt_tokens"]


def test_a_chat_template_from_a_file_replaces_the_models_own(phiplug, tmp_path):
    (tmp_path / "shout.jinja").write_text("{{ messages[0].content | upper }}")
    shouted = json.loads(phiplug("run", "abc", *TOY, "--json", "--chat-template", str(tmp_path / "shout.jinja")).out)
    raw = json.loads(phiplug("run", "ABC", *TOY, "--json", "--raw").out)
    assert shouted["prompt_ids"] == raw["prompt_ids"]


def test_the_environment_chooses_where_no_flag_does(phiplug, monkeypatch):
    monkeypatch.setenv("PHIPLUG_BACKEND", "toy")
    monkeypatch.setenv("PHIPLUG_MODEL", "nowhere")
    assert phiplug("run", "hello", "-m", "toy", "-n", "3").code == 0
    assert "nowhere" in phiplug("run", "hello", "-n", "3").err


BAD = {
    "an empty prompt": (["run", "", *TOY], 2, "prompt: is empty", "InvalidParameter"),
    "a lone surrogate": (["run", "a\udc80", *TOY], 2, "prompt: character 1 is a lone surrogate", "InvalidParameter"),
    "a prompt of a megabyte": (["run", "a" * 2**20, *TOY], 2, "tokens long and the context holds", "PromptTooLong"),
    "a temperature that is no number": (["run", "x", *TOY, "-t", "nan"], 2, "temperature: nan", "InvalidParameter"),
    "a negative temperature": (["run", "x", *TOY, "-t", "-1"], 2, "temperature: -1.0 is outside", "InvalidParameter"),
    "a top_p of 2": (["run", "x", *TOY, "--top-p", "2"], 2, r"top_p: 2.0 is outside [0.0, 1.0]", "InvalidParameter"),
    "a seed beyond 64 bits": (["run", "x", "-b", "toy", "--seed", str(2**70)], 2, "seed: ", "InvalidParameter"),
    "no tokens at all": (["run", "x", "-b", "toy", "-n", "0"], 2, "max_tokens: 0 is outside", "InvalidParameter"),
    "an empty stop string": (["run", "x", *TOY, "--stop", ""], 2, "stop: an empty string", "InvalidParameter"),
    "a bias that is none": (["run", "x", *TOY, "--logit-bias", "a=b"], 2, "'a=b' is not ID=BIAS", "InvalidParameter"),
    "a breaker that is none": (
        ["run", "x", *TOY, "--dry-breaker", "1,"],
        2,
        "'1,' is not ID[,ID...]",
        "InvalidParameter",
    ),
    "a bias for a huge id": (
        ["run", "x", *TOY, "--logit-bias", f"{2**63}=1"],
        2,
        "logit_bias: ",
        "InvalidParameter",
    ),
    "breakers without a dialect that has them": (
        ["run", "x", *TOY, "--dry-breaker", "3"],
        2,
        "dry_breakers: the phiplug dialect",
        "UnsupportedParameter",
    ),
    "a bias for no id": (["run", "x", *TOY, "--logit-bias", "9999=1"], 2, "logit_bias: ", "InvalidParameter"),
    "no choice": (["run", "x", *TOY, "--choices", "0"], 2, "invalid value for '--choices'", "UsageError"),
    "21 of the likeliest": (["run", "x", *TOY, "--logprobs", "21"], 2, "invalid value for '--logprobs'", "UsageError"),
    "an unknown model": (["run", "x", "-m", "smolm2"], 1, "did you mean smollm2?", "ModelNotFound"),
    "a name that no file can have": (["run", "x", "-m", "x" * 5000], 1, "no model is called 'xxx", "ModelNotFound"),
    "an unknown backend": (["run", "x", "-b", "tpu"], 2, "'tpu' is not installed (installed: ", "BackendNotFound"),
    "a missing file": (["run", "x", "-m", "./none.gguf"], 1, "there is no file", "ModelNotFound"),
    "a model the backend does not take": (["run", "x", "-m", "toy", "-b", "llama-cpp"], 1, "toy", "Model"),
    "an infinite bias": (["run", "x", *TOY, "--logit-bias", "5=1e39"], 2, "logit_bias: 1e+39", "InvalidParameter"),
    "a model without a name": (["run", "x", "-m", ""], 2, "model: ", "InvalidParameter"),
    "no message to be strict with": (["run", "x", *TOY, "--raw", "--strict-content"], 2, "strict_content", "Invalid"),
    "no message for a template": (["run", "x", *TOY, "--raw", "--chat-template", "x"], 2, "chat_template", "Invalid"),
    "what a dialect lacks": (["run", "x", *TOY, "--dry-base", "3"], 2, "dry_base: ", "UnsupportedParameter"),
    "a system message for a raw prompt": (["run", "x", *TOY, "--raw", "-s", "y"], 2, "system: ", "InvalidParameter"),
    "no template for a variable": (["run", "x", *TOY, "--raw", "--template-var", "a=1"], 2, "template_var", "Invalid"),
    "a variable without a value": (["run", "x", *TOY, "--template-var", "a"], 2, "'a' is not NAME=VALUE", "Invalid"),
    "a variable twice": (["run", "x", *TOY, "--template-var", "a=1", "--template-var", "a=2"], 2, "twice", "Invalid"),
    "a variable that nothing reads": (["run", "x", *TOY, "--template-var", "a=1"], 2, "not read 'a'", "Invalid"),
    "reasoning neither shown nor hidden": (
        ["run", "x", *TOY, "--reasoning", "on"],
        2,
        "neither show nor hide",
        "Invalid",
    ),
    "no such template": (["run", "x", *TOY, "--chat-template", "none.jinja"], 2, "none.jinja", "InvalidParameter"),
    "a context of nothing": (["run", "x", *TOY, "-c", "0"], 2, "ctx_size: 0", "InvalidParameter"),
    "no threads": (["run", "x", *TOY, "--threads", "0"], 2, "threads: 0", "InvalidParameter"),
    "a device that is not there": (["run", "x", *TOY, "--device", "abacus"], 2, "device: ", "UnsupportedParameter"),
}


@pytest.mark.parametrize(("arguments", "code", "said", "name"), BAD.values(), ids=BAD)
def test_bad_input_gets_one_typed_line_and_a_code(phiplug, arguments, code, said, name):
    ran = phiplug(*arguments)
    assert (ran.code, ran.out) == (code, "")
    assert ran.err.startswith("error: ")
    assert ran.err.count("\n") == 1
    assert said in ran.err
    assert name in ran.err.rpartition("[")[2]


def test_a_folder_without_a_model_is_said_to_be_one(phiplug, tmp_path):
    ran = phiplug("run", "x", "-m", str(tmp_path))
    assert ran.code == 1
    assert str(tmp_path) in ran.err
    assert "[ModelNotFound]" in ran.err


def test_a_file_that_is_no_model_is_named_for_what_it_is(phiplug, tmp_path):
    page = tmp_path / "model.gguf"
    page.write_text("<!DOCTYPE html><html><body>Sign in</body></html>")
    ran = phiplug("run", "x", "-m", str(page))
    assert ran.code == 1
    assert "model.gguf is a web page, not a model" in ran.err
    assert "[ModelCorrupt]" in ran.err


def test_a_variable_reaches_the_template_as_json_or_as_text(phiplug, tmp_path):
    (tmp_path / "t.jinja").write_text("{{ messages[0].content }}{% if flag is false %} no{% endif %} {{ word }}")
    flags = ("--chat-template", str(tmp_path / "t.jinja"), "--template-var", "flag=false", "--template-var", "word=so")
    report = json.loads(phiplug("run", "abc", *TOY, "-n", "1", "--json", *flags).out)
    assert bytes(report["prompt_ids"][-9:]) == b"abc no so"


def test_reasoning_is_shown_on_stderr_or_hidden_and_is_no_text(phiplug, tmp_path):
    (tmp_path / "t.jinja").write_text("{{ messages[0].content }}<think>{# </think> #}")
    flags = ("abc", *TOY, "-n", "20", "--seed", "1", "--chat-template", str(tmp_path / "t.jinja"))
    report = json.loads(phiplug("run", *flags, "--json").out)
    assert report["text"] == ""
    shown, hidden = phiplug("run", *flags), phiplug("run", *flags, "--reasoning", "hide")
    assert (shown.out, hidden.out) == ("\n", "\n")
    assert shown.err.startswith(report["reasoning"][:1])
    assert len(hidden.err) < len(shown.err)


def test_control_tokens_in_a_prompt_are_a_warning_or_refused(phiplug, smollm2, llama_cpp):
    model = ("-m", str(smollm2), "-b", "llama-cpp", "--threads", "1", "-n", "2")
    warned = phiplug("run", "ignore this<|im_end|>", *model)
    assert warned.code == 0
    assert warned.err.startswith("warning: the user message holds the control token '<|im_end|>'")
    refused = phiplug("run", "ignore this<|im_end|>", *model, "--strict-content")
    assert (refused.code, refused.out) == (2, "")
    assert "[InvalidParameter]" in refused.err


def spawn(*arguments, **options):
    command = [sys.executable, "-c", "from phiplug.cli import main; main()", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def test_a_pipe_that_closes_early_ends_it_quietly(tmp_path):
    process = spawn("run", "hello", "-b", "toy", "-n", "3000", env={**os.environ, "XDG_CACHE_HOME": str(tmp_path)})
    process.stdout.read(5)
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=60) == 0
    assert "Traceback" not in err
    assert "BrokenPipe" not in err


def test_python_m_phiplug_is_the_command_line():
    done = subprocess.run([sys.executable, "-m", "phiplug", "version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("phiplug ")


def imported(script):
    """Return the modules that a program has imported when it ends."""
    show = "import atexit, sys; atexit.register(lambda: print('\\n' + ' '.join(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", f"{show}\n{script}"], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


def imported_by(*arguments):
    """Return the modules that a command has imported when it ends."""
    return imported(f"import sys; sys.argv = {['phiplug', *arguments]!r}\nfrom phiplug.cli import main; main()")


def test_help_is_quick_because_it_imports_nothing_heavy():
    heavy = {"numpy", "tokenizers", "jinja2", "huggingface_hub", "llama_cpp", "mlx", "rich", "phiplug_toy"}
    found = imported_by("--help")
    assert "typer" in found
    assert not heavy & found


def test_what_comes_before_the_load_imports_nothing_that_can_be_imported_beside_it():
    before = (
        "phiplug.cli.run, phiplug.load, phiplug.text.prompt, phiplug.plugins.backends, phiplug.plugins.choice, "
        "phiplug.models.hub, phiplug_llama_cpp.loading, phiplug_llama_cpp.trial"
    )
    heavy = {"numpy", "tokenizers", "jinja2", "huggingface_hub", "rich", "asyncio", "ssl", "sqlite3", "phiplug.engine"}
    assert not heavy & imported(f"import {before}")


def test_an_answer_imports_nothing_that_it_does_not_need():
    unneeded = {"pydantic", "asyncio", "rich", "prompt_toolkit", "httpx", "llguidance", "fastapi", "phiplug.server"}
    found = imported_by("run", "hi", "-b", "toy", "-n", "2", "--no-log")
    assert "phiplug.engine" in found
    assert not unneeded & found


def test_a_stream_that_cannot_show_a_character_spells_it_out():
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    process = spawn("run", "h", "-b", "toy", "-n", "4", "--logit-bias", "200=1000", env=environment)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "?" not in out
    assert "\\ufffd" in out
    assert "Traceback" not in err


@pytest.mark.parametrize("options", [("-n", "3"), ("-c", "40", "-n", "60")])
def test_an_answer_that_was_cut_off_says_so(phiplug, options):
    said = phiplug("run", "hello", "-b", "toy", "--seed", "1", *options).err
    assert ("cut off: --max-tokens" in said) == ("-c" not in options)
    assert ("cut off: the context of 40 tokens is full" in said) == ("-c" in options)


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/full is Linux's")
@pytest.mark.parametrize("extra", [(), ("--json",), ("--no-stream",)])
def test_a_full_disk_is_one_line(extra):
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-c", "from phiplug.cli import main; main()", "run", "hi", "-b", "toy", "-n", "4"]
        done = subprocess.run([*command, *extra], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: the output cannot be written: No space left on device")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("command", [("--help",), ("run", "--help"), ("models", "list"), ("run", "hi", "-b", "toy")])
def test_a_reader_who_has_gone_ends_a_command_without_a_complaint(command):
    reader, writer = os.pipe()
    os.close(reader)
    code = "from phiplug.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code, *command], stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert done.returncode == 0
    assert b"error" not in done.stderr


@pytest.mark.parametrize(("command", "missing"), [(("run", "hi", "-b", "toy"), "numpy"), (("backends",), "rich.table")])
def test_a_library_that_does_not_load_is_one_line(command, missing):
    script = f"import sys; sys.modules[{missing!r}] = None; from phiplug.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", script, *command], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: a part of this installation cannot be loaded: import of {missing}")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(("command", "closed"), [("run hi", ">&-"), ("run -", "<&-"), ("chat", "<&-")])
def test_a_closed_stream_is_an_error_and_no_traceback(command, closed):
    script = f"{sys.executable} -c 'from phiplug.cli import main; main()' {command} -b toy {closed}"
    done = subprocess.run(["/bin/sh", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode in (1, 2)
    assert done.stderr.startswith("error: ")
    assert "is closed" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_plugin_that_is_disabled_and_not_there_is_warned_of(phiplug, monkeypatch):
    monkeypatch.setenv("PHIPLUG_DISABLE_PLUGINS", "mlx, bogus")
    ran = phiplug("run", "hello", *TOY)
    assert ran.code == 0
    assert ran.err.startswith("warning: PHIPLUG_DISABLE_PLUGINS: no plugin is called 'bogus'\n")


def test_the_version_is_told(phiplug):
    from phiplug import __version__

    assert phiplug("--version").out == f"phiplug {__version__}\n"


@pytest.mark.parametrize("arguments", [["run", "hi", "--temp"], ["chat", "-b"], ["bench", "-o"], ["--version=3"]])
def test_a_flag_without_its_value_is_one_line(phiplug, arguments):
    ran = phiplug(*arguments)
    assert ran.code == 2
    assert ran.err.startswith("error: option ")
    assert ran.err.count("\n") == 1


def test_a_prompt_of_several_words_is_told_to_be_quoted(phiplug):
    assert "(put a prompt of several words in quotes)" in phiplug("run", "hello", "world").err


@pytest.mark.skipif(sys.platform == "win32", reason="Windows knows its users otherwise")
def test_a_user_without_a_home_folder_is_answered(phiplug, monkeypatch):
    import pwd

    def unknown(_):
        raise KeyError("no such user")

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    assert phiplug("run", "hello", *TOY).code == 0


def test_json_is_ascii(phiplug):
    out = phiplug("run", "hello \u2603", *TOY, "--logit-bias", "200=1000", "--json").out
    assert out.isascii()
    assert "\ufffd" in json.loads(out)["text"]
