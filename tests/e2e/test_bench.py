"""`phiplug bench` and `phiplug compare` as a user types them, on the toy and on two twins of it, one of them ill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from distributions import install

import phiplug_toy

TWIN = """
import os
from dataclasses import replace
from pathlib import Path

import phiplug_toy
from phiplug.spi import Backend, ModelFiles, hookimpl
from phiplug_toy.tokenizer import ByteTokenizer


def load(files, options):
    model = phiplug_toy.load(files, options)
    model.info = replace(model.info, features=frozenset({"copy"}))  # no guess: tries at load are passes
    forward, passes = model.forward, []

    def counted(steps):
        passes.append(steps)
        if len(passes) == int(os.environ.get("TWIN_DIES_AT", -1)):
            os.abort()
        if len(passes) == int(os.environ.get("TWIN_TELLS_AT", -1)):
            Path(os.environ["TWIN_TELLS"]).touch()
        return forward(steps)

    model.forward = counted
    return model


@hookimpl
def phiplug_register_backends():
    made = {"twin": load, "other": phiplug_toy.load}
    return [Backend(name, "the toy again", phiplug_toy.probe, accepts, made[name], "page", api=2) for name in made]


def accepts(files):
    return files.format == "page"


@hookimpl
def phiplug_find_model(reference):
    path = Path(os.environ.get("PAGE", phiplug_toy.CORPUS))
    return ModelFiles(reference, path, "page") if reference == "page" else None


@hookimpl
def phiplug_tokenizer(files):
    return ByteTokenizer() if accepts(files) else None
"""

SMALL = ("--prompt-tokens", "8", "--gen-tokens", "4", "--rounds", "2", "--positions", "16")


@pytest.fixture
def twin(tmp_path, monkeypatch):
    """The twins, installed here and in every process that is started."""
    folder = tmp_path / "site"
    folder.mkdir()
    install(folder, "phiplug-twin", TWIN, {"phiplug.backends": {"twin": "phiplug_twin", "other": "phiplug_twin"}})
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", str(folder))
    yield folder
    sys.modules.pop("phiplug_twin", None)


def test_two_backends_are_measured_ranked_and_written_down(phiplug, twin, tmp_path):
    ran = phiplug("bench", "-b", "other", "-b", "twin", *SMALL, "--engine-only", "-o", str(tmp_path / "run.json"))
    assert ran.code == 0
    assert "8 rounds will take about" in ran.err
    assert "twin beside other: 0.0% of draws with one seed differ" in ran.out
    assert "not ranked" not in ran.out
    assert str(tmp_path) not in (tmp_path / "run.json").read_text()
    page = tmp_path / "page.html"
    shown = phiplug("compare", str(tmp_path / "run.json"), "--html", str(page))
    assert shown.code == 0
    assert "twin, bare engine" in shown.out
    assert "<svg" in page.read_text()


def test_pytest_benchmark_reads_a_run(phiplug, tmp_path):
    assert phiplug("bench", "-b", "toy", *SMALL, "-o", str(tmp_path / "run.json")).code == 0
    command = [Path(sys.executable).with_name("pytest-benchmark"), "compare", "run.json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "benchmark 'toy pp8+tg4': 1 tests" in done.stdout
    assert "OPS" in done.stdout


def test_a_model_that_differs_by_one_byte_is_not_ranked(phiplug, twin, tmp_path, monkeypatch):
    page = tmp_path / "page.txt"
    monkeypatch.setenv("PAGE", str(page))
    text = phiplug_toy.CORPUS.read_bytes()
    for name, content in (("one", text), ("two", text.replace(b"a", b"e", 1))):
        page.write_bytes(content)
        assert phiplug("bench", "-m", "page", "-b", "twin", *SMALL, "-o", str(tmp_path / f"{name}.json")).code == 0
    runs = [str(tmp_path / "one.json"), str(tmp_path / "two.json")]
    records = [json.loads(line) for line in phiplug("compare", *runs, "--format", "jsonl").out.splitlines()]
    assert [record["rank"] for record in records] == [1, 1, None, None]
    assert records[2]["not_ranked_because"].startswith("another model file: SHA-256 ")
    refused = phiplug("compare", *runs, "--fail-over", "5%")
    assert refused.code == 2
    assert "the runs have different model" in refused.err


def test_each_backend_may_have_a_file_of_its_own(phiplug, twin, tmp_path):
    run = tmp_path / "run.json"
    ran = phiplug("bench", "-b", "toy", "-b", "twin=page", *SMALL, "-o", str(run))
    assert ran.code == 0
    rows = json.loads(run.read_text())["phiplug"]["run"]["rows"]
    assert [row["model"] and row["model"]["reference"] for row in rows] == [None, "page"]
    heading, *lines = [line.split() for line in ran.out.splitlines() if line.strip()]
    assert heading[:3] == ["#", "engine", "prefill/s"]  # both names lead to one file
    assert sorted(line[0] for line in lines if line[1:2] in (["toy"], ["twin"])) == ["1", "2"]


def test_two_engines_with_files_of_their_own_are_compared_and_the_files_are_named(phiplug, twin, tmp_path, monkeypatch):
    page = tmp_path / "page.txt"
    page.write_bytes(phiplug_toy.CORPUS.read_bytes().replace(b"e", b"a"))
    monkeypatch.setenv("PAGE", str(page))
    html = tmp_path / "parity.html"
    ran = phiplug("parity", "-b", "toy", "-b", "twin=page", "--positions", "40", "--html", str(html))
    assert ran.code == 1
    assert "toy and twin have other files: toy (toy, SHA-256 " in " ".join(ran.out.split())
    assert "page (page, SHA-256 " in html.read_text()
    own = phiplug("bench", "-b", "toy=toy", "-b", "twin=page", *SMALL, "-o", str(tmp_path / "own.json"))
    assert own.code == 0
    assert json.loads((tmp_path / "own.json").read_text())["phiplug"]["run"]["cell"] == ""  # no model is meant for all
    ran = phiplug("bench", "-b", "toy", "-b", "twin=page", *SMALL)
    assert "* twin is not ranked: another format, page, whose bits per weight are not known" in ran.out
    assert "twin and toy have other files: page (page, SHA-256 " in ran.out


def test_a_backend_that_dies_has_a_row_that_says_so_and_harms_no_other(phiplug, twin, tmp_path, monkeypatch):
    monkeypatch.setenv("TWIN_DIES_AT", "11")  # in the third pass of the second round
    run = tmp_path / "run.json"
    ran = phiplug("bench", "-b", "other", "-b", "twin", *SMALL[:-1], "0", "-o", str(run))
    assert ran.code == 0
    assert f"twin: its process was killed by signal {int(signal.SIGABRT)}" in " ".join(ran.out.split())
    rows = json.loads(run.read_text())["phiplug"]["run"]["rows"]
    assert [len(row["samples"]) for row in rows] == [2, 1]


def test_where_every_backend_fails_that_is_the_error(phiplug, twin, monkeypatch):
    monkeypatch.setenv("TWIN_DIES_AT", "1")
    ran = phiplug("bench", "-b", "twin", *SMALL)
    assert (ran.code, ran.out) == (1, "")
    assert "[BackendFailed]" in ran.err


def test_ctrl_c_keeps_what_is_done(twin, tmp_path):
    told, run = tmp_path / "told", tmp_path / "run.json"
    passes = 4 + 3 * 4  # a warm-up, and into the third round
    command = [sys.executable, "-c", "from phiplug.cli import main; main()", "bench", "-b", "twin", *SMALL]
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path), "TWIN_TELLS_AT": str(passes), "TWIN_TELLS": str(told)}
    process = subprocess.Popen(
        [*command, "--positions", "0", "--rounds", "100000", "-o", str(run)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    while not told.exists() and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in out
    assert "interrupted: " in out
    written = json.loads(run.read_text())["phiplug"]["run"]
    assert written["complete"] is False
    assert len(written["rows"][0]["samples"]) >= 2


def test_a_grid_is_measured_gone_on_with_and_given_another_engine(phiplug, twin, tmp_path):
    path = tmp_path / "grid.json"
    small = ("-m", "page", "-n", "4", "--rounds", "1", "--positions", "0", "-o", str(path), "--format", "jsonl")
    first = phiplug("bench", "-b", "other", "-p", "8", "-d", "0", "-d", "40", *small)
    assert first.code == 0
    assert "2 of 2: 8+4 @ d40, page" in first.err
    records = [json.loads(line) for line in first.out.splitlines()]
    assert [(each["n_prompt"], each["n_gen"], each["n_depth"]) for each in records] == [
        *((8, 0, 0), (0, 4, 8), (8, 0, 40), (0, 4, 48)),
    ]
    more = phiplug("bench", "-b", "other", "-b", "twin", "-p", "8", "-d", "0", "-d", "40", *small, "--resume")
    assert more.code == 0
    assert len(more.out.splitlines()) == 8
    assert more.out.splitlines()[0] == first.out.splitlines()[0]
    nothing = phiplug("bench", "-b", "other", "-b", "twin", "-p", "8", "-d", "0", "-d", "40", *small, "--resume")
    assert "2 of 2 are in the file already" in nothing.err
    assert nothing.out == more.out
    shown = phiplug("compare", str(path))
    assert [line.split()[1] for line in shown.out.splitlines() if " twin " in line][:2] == ["8+4", "8+4"]
    written = path.read_text()
    path.write_text(written.replace(json.loads(written)["machine_info"]["node"], "0" * 12))
    refused = phiplug("bench", "-b", "other", "-p", "8", *small, "--resume")
    assert (refused.code, "is of another machine, 000000000000" in refused.err) == (2, True)
    assert "is for files of one run each" in phiplug("compare", str(path), str(path), "--fail-over", "5%").err


def test_a_named_workload_is_shared_with_what_a_pull_request_says(phiplug, twin, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ran = phiplug("bench", "--workload", "llama-bench", "-b", "toy", "--rounds", "1", "--positions", "0", "--share")
    assert ran.code == 0
    run, page = sorted(tmp_path.glob("results/*/*"), reverse=True)
    assert run.name.startswith("llama-bench-")
    assert json.loads(run.read_text())["phiplug"]["run"]["workload"]["name"] == "llama-bench"
    for path in (run, page):
        assert path.relative_to(tmp_path).as_posix() in ran.err
    assert "Result: llama-bench on " in ran.err
    assert "workload llama-bench: 512 prompt ids" in ran.out


def test_what_llama_bench_measured_stands_beside_a_run(phiplug, tmp_path):
    run, other = tmp_path / "run.json", tmp_path / "b.json"
    assert phiplug("bench", "-b", "toy", *SMALL, "-o", str(run)).code == 0
    other.write_text(json.dumps([{"n_prompt": 0, "n_gen": 8, "samples_ts": [5.0], "model_filename": "tiny.gguf"}]))
    ran = phiplug("compare", str(run), "--from", f"llama-bench={other}", "--from", f"llama-bench={other}")
    assert ran.code == 0
    assert [line.split()[0] for line in ran.out.splitlines() if "llama-bench, tg8" in line][:2] == ["*", "*"]
    refused = phiplug("compare", str(run), "--from", f"llama-bench={run}")
    assert (refused.code, len(refused.err.splitlines())) == (2, 1)
    assert "is no list of llama-bench's records" in refused.err


def test_a_regression_is_an_exit_code(phiplug, tmp_path):
    run, slow = tmp_path / "run.json", tmp_path / "slow.json"
    assert phiplug("bench", "-b", "toy", *SMALL, "-o", str(run)).code == 0
    written = json.loads(run.read_text())
    for sample in written["phiplug"]["run"]["rows"][0]["samples"]:
        sample["decode_s"] *= 100
    slow.write_text(json.dumps(written))
    assert phiplug("compare", str(run), str(run), "--fail-over", "5%").code == 0
    ran = phiplug("compare", str(run), str(slow), "--fail-over", "5%")
    assert ran.code == 1
    assert "slower: toy: decode takes" in ran.err


BAD = {
    "no backend": (["bench"], 2, "backend: none is named"),
    "an unknown backend": (["bench", "-b", "tpu"], 2, "'tpu' is not installed"),
    "nothing to resume": (["bench", "-b", "toy", "--resume"], 2, "there is no file to go on with"),
    "a length twice": (["bench", "-b", "toy", "-p", "8", "-p", "8"], 2, "prompt_tokens: the same one is named twice"),
    "a grid to share": (["bench", "-b", "toy", "-p", "8", "-p", "9", "--share"], 2, "this is a grid"),
    "an unknown workload": (["bench", "-b", "toy", "--workload", "x"], 2, "none is called 'x'"),
    "a workload's other length": (
        ["bench", "-b", "toy", "--workload", "llama-bench", "--gen-tokens", "7"],
        2,
        "gen_tokens: 7 is not llama-bench's, which is 128",
    ),
    "a backend with no file": (["bench", "-b", "toy="], 2, "'toy=' is no NAME=MODEL"),
    "a file with no backend": (["parity", "-b", "=x.gguf", "-b", "toy"], 2, "'=x.gguf' is no NAME=MODEL"),
    "a backend twice": (["bench", "-b", "toy", "-b", "toy"], 2, "the same one is named twice"),
    "an unknown model": (["bench", "-b", "toy", "-m", "smolm2"], 1, "did you mean smollm2?"),
    "a folder that is not there": (["bench", "-b", "toy", "-o", "none/run.json"], 2, "none/run.json cannot be written"),
    "a chat template": (["bench", "-b", "toy", "--chat-template", "x"], 2, "a benchmark's prompt has none"),
    "a model that the backend does not take": (["bench", "-b", "toy", "-m", "smollm2"], 1, "does not take 'smollm2'"),
    "no run": (["compare", "none.json"], 2, "none.json cannot be read"),
    "a bound that is none": (["compare", "a.json", "b.json", "--fail-over", "much"], 2, "'much' is no percentage"),
    "a program that is not known": (
        ["compare", "a.json", "--from", "mlx=b.json"],
        2,
        "'mlx=b.json' is no PROGRAM=FILE",
    ),
    "a program without its file": (
        ["compare", "a.json", "--from", "llama-bench"],
        2,
        "as in --from llama-bench=b.json",
    ),
    "a regression of one run": (["compare", "a.json", "--fail-over", "5%"], 2, "there is one"),
}


@pytest.mark.parametrize(("arguments", "code", "said"), BAD.values(), ids=BAD)
def test_bad_input_is_one_typed_line(phiplug, arguments, code, said):
    ran = phiplug(*arguments)
    assert (ran.code, ran.out) == (code, "")
    assert said in ran.err.splitlines()[-1]
    assert ran.err.splitlines()[-1].startswith("error: ")


def test_without_the_extra_the_command_names_it(phiplug, monkeypatch):
    monkeypatch.setitem(sys.modules, "psutil", None)
    ran = phiplug("bench", "-b", "toy", *SMALL)
    assert ran.code == 1
    assert "pip install 'phiplug[bench]'" in ran.err
    assert "[NotInstalled]" in ran.err
