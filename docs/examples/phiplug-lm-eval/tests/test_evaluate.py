"""The harness evaluates phiplug's models: its own `simple_evaluate`, on tasks whose data is written here."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace

import pytest

pytest.importorskip("lm_eval", reason="lm-eval is not installed")

from lm_eval import simple_evaluate
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
from phiplug_lm_eval import PhiplugLM

from phiplug.errors import InvalidParameter, PhiplugWarning, UnsupportedParameter

TEXTS = ["The toy is a page of text.", "It stores none of its own, and that is all. " * 3]
TOY = {"model": "toy", "backend": "toy", "batch_size": 3}


@pytest.fixture(scope="module")
def lm():
    return PhiplugLM("toy", "toy", batch_size="auto", max_batch_size=3, ctx_size=64)


@pytest.fixture
def evaluated(tmp_path, monkeypatch):
    """Evaluate one task on the toy, with documents and nothing fetched."""
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))

    def evaluate(docs, **config):
        path = tmp_path / "docs.json"
        path.write_text("\n".join(map(json.dumps, docs)), encoding="utf-8")
        task = {
            "task": "own",
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"test": str(path)}, "cache_dir": str(tmp_path / "cache")},
            "test_split": "test",
            **config,
        }
        found = simple_evaluate("phiplug", model_args=TOY, tasks=[task], bootstrap_iters=0)
        return found["results"]["own"], found

    return evaluate


def instances(*arguments):
    return [SimpleNamespace(args=each) for each in arguments]


def test_multiple_choice_is_answered_by_log_probabilities(evaluated):
    docs = [
        {"query": "The toy is a page of", "choices": ["text", "zzzz", "QQQQ"], "gold": 0},
        {"query": "The toy is a page of", "choices": ["xxxx", "text"], "gold": 0},
    ]
    results, found = evaluated(
        docs,
        output_type="multiple_choice",
        doc_to_text="{{query}}",
        doc_to_choice="{{choices}}",
        doc_to_target="{{gold}}",
        metric_list=[{"metric": "acc"}],
    )
    assert results["acc,none"] == 0.5
    assert found["config"]["backend"] == "toy"
    assert found["config"]["context_length"] == 4096


def test_a_text_has_the_perplexity_that_phiplug_gives_it(evaluated):
    results, _ = evaluated(
        [{"text": text} for text in TEXTS],
        output_type="loglikelihood_rolling",
        doc_to_text="",
        doc_to_target="{{text}}",
        metric_list=[{"metric": "byte_perplexity"}],
    )
    with PhiplugLM("toy", "toy").llm as llm:
        total = sum(llm.score_text(text).total for text in TEXTS)
    assert results["byte_perplexity,none"] == pytest.approx(math.exp(-total / sum(map(len, TEXTS))))


def test_text_is_generated_until_its_stop(evaluated):
    with PhiplugLM("toy", "toy").llm as llm:
        answer = llm.generate("The toy is", raw=True, temperature=0.0, repeat_penalty=1.0, max_tokens=12, stop="e")
    results, _ = evaluated(
        [{"query": "The toy is", "answer": answer.text}, {"query": "The toy is", "answer": "something else"}],
        output_type="generate_until",
        doc_to_text="{{query}}",
        doc_to_target="{{answer}}",
        generation_kwargs={"until": ["e"], "max_gen_toks": 12},
        metric_list=[{"metric": "exact_match"}],
    )
    assert results["exact_match,none"] == 0.5


def test_the_harness_own_device_is_not_read_and_that_of_the_arguments_is():
    flags = {"batch_size": 2, "max_batch_size": None, "device": "cuda:0"}
    lm = PhiplugLM.create_from_arg_string("model=toy,backend=toy,ctx_size=64", flags)
    assert (lm.llm.info.slots, lm.llm.info.context_length) == (2, 64)
    with pytest.raises(UnsupportedParameter, match="device"):
        PhiplugLM.create_from_arg_string("model=toy,backend=toy,device=abacus", flags)


def test_log_probabilities_are_those_of_a_score(lm):
    requests = [("The toy is", " a page"), ("The toy is", " text"), ("", "The toy")]
    found = lm.loglikelihood(instances(*requests), disable_tqdm=True)
    assert found == [(score.total, score.greedy) for score in (lm.llm.score(a, [b])[0] for a, b in requests)]


def test_a_context_that_is_too_long_is_cut_on_the_left_and_said(lm):
    with pytest.warns(PhiplugWarning, match="1 of the contexts"):
        cut, _ = lm.loglikelihood(instances(("x" * 100 + "The toy is", " a"), ("The", " a")), disable_tqdm=True)
    context = [*map(ord, "x" * 100 + "The toy is")][-62:]
    (expected,) = lm.llm.score_ids([(context, [*b" a"])])
    assert cut == (expected.total, expected.greedy)
    with pytest.warns(PhiplugWarning, match="1 of the contexts"):
        assert lm.generate_until(instances(("x" * 100, {"until": [], "max_gen_toks": 5})), disable_tqdm=True)


def test_rolling_windows_are_the_harness_own(lm):
    ids = lm.llm.tokenizer.encode(TEXTS[1])
    size = lm.llm.info.context_length
    windows = get_rolling_token_windows(ids, lm.prefix_token_id, size - 1, 1)
    pairs = [make_disjoint_window(window) for window in windows]
    assert len(pairs) > 2
    expected = sum(score.total for score in lm.llm.score_ids(pairs))
    assert lm.loglikelihood_rolling(instances((TEXTS[1],)), disable_tqdm=True) == [pytest.approx(expected)]


def test_what_is_sampled_repeats_and_differs_from_request_to_request(lm):
    asked = instances(*[("The", {"until": ["\n"], "do_sample": True, "temperature": 1.5, "max_gen_toks": 9})] * 3)
    first = lm.generate_until(asked, disable_tqdm=True)
    assert len(set(first)) > 1
    assert lm.generate_until(asked, disable_tqdm=True) == first


def test_a_parameter_that_nothing_would_read_is_refused(lm):
    with pytest.raises(UnsupportedParameter, match="num_beams"):
        lm.generate_until(instances(("The", {"until": [], "num_beams": 4})), disable_tqdm=True)
    options = {"until": [], "do_sample": True, "temperature": 1.0, "top_p": 2.0}
    with pytest.raises(InvalidParameter, match="top_p"):
        lm.generate_until(instances(("The", options)), disable_tqdm=True)


def test_a_conversation_is_rendered_by_the_models_own_template(lm):
    history = [{"role": "user", "content": "hello"}]
    assert lm.apply_chat_template(history) == lm.llm.render(history)
    begun = [*history, {"role": "assistant", "content": "The answer is"}]
    assert lm.apply_chat_template(begun, add_generation_prompt=False) == lm.llm.render(history) + "The answer is"
