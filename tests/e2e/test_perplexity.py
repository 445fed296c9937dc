"""`phiplug perplexity` as a user types it, on the toy backend and on SmolLM2-135M."""

from __future__ import annotations

import json
import math
import statistics

import pytest

from phiplug import load

TEXT = "The toy is a page of text, and nothing more than that.\n"


@pytest.fixture
def page(tmp_path):
    path = tmp_path / "page.txt"
    path.write_text(TEXT * 3, encoding="utf-8")
    return path


def test_it_is_exp_of_the_mean_with_its_standard_error(phiplug, page):
    ran = phiplug("perplexity", "-b", "toy", str(page), "--json")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.count("\n") == 1
    (row,) = json.loads(ran.out)["backends"]
    logprobs = score(TEXT * 3).logprobs
    expected = math.exp(-statistics.fmean(logprobs))
    assert row.pop("tokens_per_s") > 0
    assert row == {
        "backend": "toy",
        "model": "toy",
        "device": "cpu",
        "context": 4096,
        "tokens": len(TEXT) * 3,
        "perplexity": pytest.approx(expected, rel=1e-12),
        "error": pytest.approx(expected * statistics.stdev(logprobs) / math.sqrt(len(logprobs)), rel=1e-9),
    }


def score(text):
    with load("toy", backend="toy") as llm:
        return llm.score_text(text)


def test_each_backend_that_is_named_has_its_row(phiplug, page):
    ran = phiplug("perplexity", "-b", "toy", "-b", "toy", str(page))
    assert (ran.code, ran.err) == (0, "")
    first, second = rows(ran.out)
    assert first[:-1] == second[:-1] == ["toy", "on", "cpu", str(len(TEXT) * 3), "4096", *first[5:7]]


def rows(out):
    return [line.split() for line in out.splitlines() if line.strip().startswith("toy")]


def test_a_dash_reads_the_text_from_standard_input(phiplug, page):
    piped = phiplug("perplexity", "-b", "toy", "-", "--json", stdin=TEXT * 3)
    named = phiplug("perplexity", "-b", "toy", str(page), "--json")
    first, second = (json.loads(ran.out)["backends"][0]["perplexity"] for ran in (piped, named))
    assert first == second


def test_a_single_token_has_no_standard_error(phiplug):
    ran = phiplug("perplexity", "-b", "toy", "-", stdin="T")
    (row,) = rows(ran.out)
    assert row[-2] == "-"


def test_contexts_that_differ_are_said_where_the_text_is_longer(phiplug, page, monkeypatch):
    from phiplug.cli.flags import ModelFlags

    sizes = iter((16, 32))
    monkeypatch.setattr(ModelFlags, "load_on", lambda self, name, **_: load("toy", backend=name, ctx_size=next(sizes)))
    ran = phiplug("perplexity", "-b", "toy", "-b", "toy", str(page))
    assert ran.code == 0
    assert ran.err.startswith("warning: the engines' contexts differ")
    assert "--ctx-size" in ran.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-b", "toy", "nowhere.txt"], "error: file: nowhere.txt cannot be read"),
        (["-b", "toy", "-"], "error: file: holds no text"),
        (["-b", "nope", "-m", "toy", __file__], "error: "),
        (["-b", "toy"], "error: missing argument 'file' (see phiplug perplexity --help)"),
    ],
)
def test_what_cannot_be_measured_is_one_line(phiplug, arguments, said):
    ran = phiplug("perplexity", *arguments)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith(said)
    assert ran.err.count("\n") == 1


@pytest.mark.slow
@pytest.mark.usefixtures("llama_cpp", "mlx")
def test_llama_cpp_and_mlx_find_the_same_text_equally_likely(phiplug, smollm2, tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("The capital of France is Paris. Water boils at one hundred degrees. " * 8, encoding="utf-8")
    ran = phiplug("perplexity", "-m", str(smollm2), "-b", "llama-cpp", "-b", "mlx", "-c", "64", str(text), "--json")
    first, second = json.loads(ran.out)["backends"]
    assert first["tokens"] == second["tokens"]
    assert first["perplexity"] == pytest.approx(second["perplexity"], rel=0.03)
