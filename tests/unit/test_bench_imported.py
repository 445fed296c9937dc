"""What llama-bench measured, beside our rows: read or refused, paired, and marked where it says nothing."""

from __future__ import annotations

import csv
import io
import json

import pytest
from measured import row, run

from phiplug.bench import imported, tables
from phiplug.bench.page import page
from phiplug.errors import InvalidParameter

CONFIGURATION = {
    "build_commit": "0c1e570",
    "cpu_info": "AMD EPYC 7763 64-Core Processor",
    "gpu_info": "",
    "backends": "CPU",
    "model_filename": "../someone/models/tiny.gguf",
    "model_type": "llama 256M Q4_1",
    "model_size": 96576768,
    "model_n_params": 134515008,
    "n_batch": 2048,
    "n_threads": 2,
    "type_k": "f16",
}


def record(n_prompt, n_gen, rates=(90.0, 100.0, 110.0), **more):
    """One record, as llama-bench writes it."""
    counts = {"n_prompt": n_prompt, "n_gen": n_gen, "n_depth": 0}
    return CONFIGURATION | counts | {"avg_ts": sum(rates) / len(rates), "samples_ts": list(rates)} | more


@pytest.fixture
def read(tmp_path):
    """Read records, written to a file."""

    def reading(records):
        path = tmp_path / "b.json"
        path.write_text(records if isinstance(records, str) else json.dumps(records))
        return imported.load(path)

    return reading


def test_a_test_of_prefill_and_one_of_decoding_are_one_row(read):
    (found,) = read([record(512, 0, (1000.0, 2000.0, 3000.0)), record(0, 128)])
    assert found.name == "llama-bench, pp512, tg128"
    (cells,) = imported.cells([found], ["#", "machine", "engine", "prefill/s", "decode/s", "x first", "TTFT ms", "new"])
    assert cells == [
        *("*", "AMD EPYC 7763", "llama-bench, pp512, tg128", "2000 [1500, 2500]", "100.0 [95.0, 105.0]", "-", "?", "?"),
    ]


def test_tests_of_other_configurations_and_depths_are_rows_that_say_so(read):
    other = record(0, 128, n_threads=4, n_batch=64)
    found = read([record(512, 0), record(0, 128), record(0, 128, n_depth=512), other, record(64, 16)])
    assert [(each.name, each.prefill is None) for each in found] == [
        ("llama-bench, pp512, tg128, n_batch 2048, n_threads 2", False),
        ("llama-bench, pp64+tg16, n_batch 2048, n_threads 2", True),
        ("llama-bench, tg128 @ d512, n_batch 2048, n_threads 2", True),
        ("llama-bench, tg128, n_batch 64, n_threads 4", True),
    ]


def test_a_rate_of_prompt_and_generation_together_is_neither(read):
    assert imported.cells(read([record(64, 16)]), ["prefill/s", "decode/s"]) == [["?", "?"]]


def test_what_an_old_file_does_not_say_is_marked(read):
    bare = {"n_prompt": 0, "n_gen": 8, "samples_ts": [5.0], "model_filename": "C:\\models\\tiny.gguf"}
    found = read([bare])
    said = next(imported.remarks(found))
    assert said == ("llama-bench, tg8: b.json, build ?, ? on ?, threads ?; model tiny.gguf, ?, ?; 1 rounds")
    assert imported.cells(found, ["machine", "prefill/s", "decode/s"]) == [["?", "?", "5.0 [5.0, 5.0]"]]


BAD = {
    "no JSON": ("| model | t/s |", "is no JSON"),
    "no list": ('{"n_prompt": 1}', "is no list of llama-bench's records"),
    "an empty list": ("[]", "is no list of llama-bench's records"),
    "other records": ('[{"a": 1}]', "is no list of llama-bench's records: 'n_prompt'"),
    "a text for a number": (json.dumps([record("512", 0)]), "n_prompt is str"),
    "no rates": (json.dumps([record(512, 0, (1.0,), samples_ts=[])]), "samples_ts has no rates above 0"),
    "a negative rate": (json.dumps([record(512, 0, (-1.0,))]), "samples_ts has no rates above 0"),
    "a rate that is none": (json.dumps([record(512, 0, (float("nan"),))]), "must be finite"),
    "a test of nothing": (json.dumps([record(0, 0)]), "are no test"),
    "too deep": ("[" * 100_000, "is no JSON"),
}


@pytest.mark.parametrize(("text", "said"), BAD.values(), ids=BAD)
def test_another_file_is_refused_with_what_is_wrong_with_it(read, text, said):
    with pytest.raises(InvalidParameter) as error:
        read(text)
    assert said in str(error.value)
    assert "llama-bench -o json writes what is meant" in str(error.value)


def test_imported_rows_stand_in_every_form_and_are_never_ranked(read):
    runs, beside = [run(row("a"), row("b"))], read([record(512, 0), record(0, 128, (1e5, 1e5, 1e5))])
    names = tables.headings(runs, beside)
    lines = tables.cells(runs, beside)
    assert [line[0] for line in lines] == ["1", "1", "*"]
    assert all(len(line) == len(names) for line in lines)
    assert lines[2][names.index("x first")] == "-"
    assert "* what llama-bench measured is not ranked" in tables.remarks(runs, beside)[-1]
    assert "| llama-bench, pp512, tg128 |" in tables.markdown(runs, beside)
    records = [json.loads(line) for line in tables.as_jsonl(runs, beside).splitlines()]
    assert records[-1].keys() == records[0].keys()
    assert (records[-1]["rank"], records[-1]["n_gen"], records[-1]["median_ts"]) == (None, 128, 1e5)
    assert list(csv.DictReader(io.StringIO(tables.as_csv(runs, beside))))[-1]["model_sha256"] == ""
    html = page(runs, beside)
    assert html.count("llama-bench, tg128 *") == 1
    assert "a and b" in html or "b and a" in html  # the headline is about rows of ours
    for text in (tables.as_jsonl(runs, beside), html):
        assert "someone" not in text
