"""Results to share: where they lie, what is refused, and the table over all of them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from measured import HARDWARE, LOADED, MODEL, WORK, row, run

from bench.results import main
from phiplug.bench.record import save
from phiplug.bench.results import (
    BEGIN,
    END,
    description,
    place,
    problems,
    problems_of_file,
    share,
    table,
    words_of,
    write_page,
)
from phiplug.bench.workloads import WORKLOADS, workload
from phiplug.errors import InvalidParameter

RUN = run(row("a"), row("b", (0.02,) * 8), row("a", (0.005,) * 8, mode="engine"), row("a", slots=4))
NAMED = replace(RUN, workload=replace(WORK, name="chat-small"))


def test_a_name_brings_its_model_and_lengths():
    found = workload("chat-small")
    assert (found.name, found.model, found.prompt_tokens, found.gen_tokens) == ("chat-small", "smollm2", 128, 64)
    assert workload("llama-bench", model="mine.gguf").model == "mine.gguf"
    assert workload("phi-3-mini", prompt_tokens=512) == WORKLOADS["phi-3-mini"]
    usual = workload(None, model="mine.gguf", gen_tokens=7)
    assert (usual.name, usual.model, usual.prompt_tokens, usual.gen_tokens) == (None, "mine.gguf", 512, 7)


@pytest.mark.parametrize(
    ("name", "said", "error"),
    [
        ("chat", {}, "none is called 'chat'.*there are chat-small, phi-3-mini, llama-bench"),
        ("chat-small", {"model": "phi-3-mini"}, "model: phi-3-mini is not chat-small's, which is smollm2"),
        ("llama-bench", {"prompt_tokens": 64}, "prompt_tokens: 64 is not llama-bench's, which is 512"),
    ],
)
def test_what_contradicts_a_name_is_refused(name, said, error):
    with pytest.raises(InvalidParameter, match=error):
        workload(name, **said)


def test_a_result_lies_below_its_chip_and_two_runs_never_in_one_place(tmp_path):
    first, second = place(NAMED, tmp_path), place(replace(NAMED, started="2026-01-02T00:00:00+00:00"), tmp_path)
    assert first.parent == second.parent == tmp_path / "imaginary-9000"
    assert first.name.startswith("chat-small-")
    assert first != second
    assert place(RUN, tmp_path).name.startswith("tiny-10-5-")


def test_what_is_shared_is_in_order_and_says_what_a_pull_request_needs(tmp_path):
    paths = share(NAMED, tmp_path)
    assert [path.suffix for path in paths] == [".json", ".html"]
    assert problems_of_file(paths[0]) == []
    said = description(NAMED, paths)
    assert said.startswith("Result: chat-small on Imaginary 9000\n")
    assert f"* `{paths[1].as_posix()}`" in said
    assert "| 1 | a | 100.0 [100.0, 100.0] |" in said


BAD = {
    "an interruption": (replace(RUN, complete=False), "it was interrupted"),
    "no rounds": (replace(RUN, rows=(replace(row(), samples=(), error="a: no"),)), "no row has a round"),
    "a row of nothing": (
        replace(RUN, rows=(row(), replace(row("b"), samples=()))),
        "b has neither rounds nor an error",
    ),
    "no processor": (replace(RUN, hardware=replace(HARDWARE, cpu="")), "the processor is not known"),
    "a host for an id": (replace(RUN, hardware=replace(HARDWARE, id="anns-laptop")), "the machine's id is not known"),
    "no checksum": (replace(RUN, model=replace(MODEL, sha256="?")), "the model's SHA-256 is not known"),
    "a path": (replace(RUN, model=replace(MODEL, reference="models/a.gguf")), "it holds a path, models/a.gguf"),
    "a home": (
        replace(RUN, rows=(row(loaded=replace(LOADED, metadata={"library": "/Users/ann/libllama.so"})),)),
        "it holds a path, /Users/ann",
    ),
    "a home on Windows": (
        replace(RUN, rows=(row(loaded=replace(LOADED, version="of C:\\Users\\ann\\x.dll")),)),
        "it holds a path, \\Users\\ann",
    ),
}


@pytest.mark.parametrize(("bad", "said"), BAD.values(), ids=BAD)
def test_what_is_no_result_is_not_shared(tmp_path, bad, said):
    assert said in list(problems(bad))
    with pytest.raises(InvalidParameter, match="share: this run is no result to share"):
        share(bad, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_reference_to_the_hub_is_nobodys_path():
    assert list(problems(replace(RUN, model=replace(MODEL, reference="hf:owner/repo:Q4_K_M")))) == []


def test_names_are_found_as_words_only():
    noted = replace(RUN, hardware=replace(HARDWARE, metadata={"rack": "ann's laptop"}))
    assert words_of(noted, ["ann", "lap", "laptop", ""]) == ["ann", "laptop"]


def test_a_file_without_its_page_or_in_another_chips_folder_is_told(tmp_path):
    alone = tmp_path / "imaginary-9000" / "run.json"
    alone.parent.mkdir()
    save(RUN, alone)
    assert "run.html cannot be read" in problems_of_file(alone)[0]
    write_page(alone, replace(RUN, started="2026-01-02T00:00:00+00:00"))
    assert problems_of_file(alone) == ["the page beside it is not the run's; `make results` writes that"]
    elsewhere = share(RUN, tmp_path)[0].rename(tmp_path / "run.json")
    write_page(elsewhere, RUN)
    assert problems_of_file(elsewhere) == ["its folder is not called imaginary-9000"]


def test_the_table_has_a_line_for_each_engine_by_work_and_speed(tmp_path):
    fast = replace(NAMED, hardware=replace(HARDWARE, cpu="Fast 1"), rows=(row("a", (0.001,) * 8),))
    for each in (RUN, NAMED, fast):
        share(each, tmp_path)
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table(tmp_path).splitlines()]
    assert [(line[0], line[1], line[3], line[5]) for line in lines[2:]] == [
        ("10+5", "Imaginary 9000, 4 cores", "a on cpu, 2 threads", "100.0 [100.0, 100.0]"),
        ("10+5", "Imaginary 9000, 4 cores", "b on cpu, 2 threads", "50.0 [50.0, 50.0]"),
        ("chat-small", "Fast 1, 4 cores", "a on cpu, 2 threads", "1000 [1000, 1000]"),
        ("chat-small", "Imaginary 9000, 4 cores", "a on cpu, 2 threads", "100.0 [100.0, 100.0]"),
        ("chat-small", "Imaginary 9000, 4 cores", "b on cpu, 2 threads", "50.0 [50.0, 50.0]"),
    ]


def test_the_page_keeps_what_is_around_the_table(tmp_path):
    page = tmp_path / "README.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    share(NAMED, tmp_path)
    (shared,) = tmp_path.glob("*/*.json")
    shared.with_suffix(".html").write_text("an older style")
    main(tmp_path)
    assert problems_of_file(shared) == []
    assert page.read_text() == f"before\n{BEGIN}\n{table(tmp_path)}{END}\nafter\n"
    page.write_text("no marks")
    with pytest.raises(InvalidParameter, match="the page has no"):
        main(tmp_path)
