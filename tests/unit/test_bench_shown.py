"""What is shown of runs: tables, records in llama-bench's names, charts, the page."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st
from measured import HARDWARE, LOADED, MODEL, WORK, row, run, sample

from phiplug.bench import charts, tables
from phiplug.bench.charts import Bar, Curve
from phiplug.bench.intervals import Ratio
from phiplug.bench.page import page

RUN = run(row("a"), row("b", (0.02,) * 8), row("a", (0.005,) * 8, mode="engine"), row("a", (0.02,) * 8, slots=4))
FOREIGN = run(row("a"), model=replace(MODEL, sha256="0" * 64), hardware=replace(HARDWARE, id="f" * 12))


def test_the_table_has_a_line_for_each_row_and_a_star_for_what_may_not_be_ranked():
    found = tables.cells([RUN, FOREIGN])
    assert [line[:3] for line in found] == [
        ["1", "Imaginary 9000 012345", "a"],
        ["2", "Imaginary 9000 012345", "b"],
        ["", "Imaginary 9000 012345", "a, bare engine"],
        ["1", "Imaginary 9000 012345", "a, 4 slots"],
        ["*", "Imaginary 9000 ffffff", "a"],
    ]
    assert all(len(line) == len(tables.headings([RUN, FOREIGN])) for line in found)


def test_one_run_needs_no_column_of_machines():
    assert "machine" not in tables.headings([RUN])
    assert tables.cells([RUN])[1] == [
        *("2", "b", "100.0 [100.0, 100.0]", "50.0 [50.0, 50.0]", "0", "12%", "0.500 [0.500, 0.500]"),
        *("100", "20.0/20.0/20.0", "5"),
    ]


def test_a_run_of_several_files_says_which_each_row_had():
    folder = replace(MODEL, reference="folder", format="folder", sha256="f" * 64)
    two = run(row("a"), replace(row("b"), model=folder))
    assert tables.headings([two])[:3] == ["#", "engine", "model"]
    assert [line[:3] for line in tables.cells([two])] == [["1", "a", "tiny"], ["1", "b", "folder"]]
    said = tables.remarks([two])
    assert "model tiny, SHA-256 aaaaaaaaaaaa, 4.00 bits per weight" in said
    assert any(text.startswith("b and a have other files: folder (folder,") for text in said)
    assert {each["model_sha256"] for each in tables.records([two])} == {"a" * 64, "f" * 64}
    html = page([two])
    assert "b and a have other files" in html
    assert ">cpu, folder</text>" in html  # below the name of its bar


def test_a_ratio_is_spelt_with_what_is_known_of_it():
    assert tables.interval(None) == "-"
    assert tables.interval(Ratio(1.0, 1.0, 1.0)) == "1.000"
    assert tables.interval(Ratio(0.5, 0.4, 0.6)) == "0.500 [0.400, 0.600]"
    assert tables.interval(Ratio(0.99, 0.97, 1.01)) == "no difference found [0.970, 1.010]"
    assert tables.interval(Ratio(0.5, 0.0, math.inf)) == "0.500, too few rounds"


def test_a_row_without_a_rank_has_no_ratio():
    assert tables.cells([RUN, FOREIGN])[-1][tables.headings([RUN, FOREIGN]).index("x first")] == "-"


def test_the_remarks_say_what_a_reader_must_know():
    said = "\n".join(tables.remarks([RUN, FOREIGN]))
    for what in (
        "Imaginary 9000",
        "4.00 bits per weight",
        "SHA-256 aaaaaaaaaaaa",
        "b beside a: 0.0% of draws with one seed differ (standard error 0.0%, 100 positions)",
        "energy: n/a",
    ):
        assert what in said
    assert "* a, Imaginary 9000 ffffff, is not ranked: another model file" in said
    assert "a: decoding through phiplug over the bare engine: 0.500 [0.500, 0.500]" in said


def test_the_memorys_limit_has_columns_where_it_is_known():
    names = tables.headings([RUN])
    assert names[names.index("MB/token") + 1] == "of limit"
    shown = [line[names.index("of limit")] for line in tables.cells([RUN])]
    assert shown == ["25%", "12%", "50%", "-"]  # of 400 a second; several sequences share a reading
    big = run(row(), model=replace(MODEL, bytes_per_token=96_576_768))
    assert tables.cells([big])[0][tables.headings([big]).index("MB/token")] == "97"
    on_card = run(row(loaded=replace(LOADED, device="cuda:0")))
    assert "of limit" not in tables.headings([on_card])
    for each, is_shown in ((RUN, True), (on_card, False)):
        assert ("of limit" in page([each])) == ("The dashed line" in page([each])) == is_shown


def test_depth_and_rest_are_said_and_counted():
    deep = run(row(), workload=replace(WORK, depth=100), delay_s=2.0)
    said = tables.remarks([deep])
    assert "10 prompt ids after 100 others with SHA-256 bbbbbbbbbbbb, then 5 tokens" in said
    assert "2 s of rest before each round" in said
    assert [each["n_depth"] for each in tables.records([deep])] == [100, 110]


def test_energy_has_a_column_where_there_is_a_meter():
    metered = run(replace(row(), samples=(replace(sample(), energy_j=10.0),)))
    assert "J/token" in tables.headings([metered])
    assert "2.00" in tables.cells([metered])[0]
    assert not any("energy" in text for text in tables.remarks([metered]))


def test_markdown_has_as_many_cells_in_every_line():
    lines = [line for line in tables.markdown([RUN]).splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in lines}) == 1
    assert len(lines) == 2 + len(RUN.rows)


def test_a_row_becomes_two_records_in_llama_benchs_names():
    prefill, generation = list(tables.records([run(row("a"))]))
    assert (prefill["n_prompt"], prefill["n_gen"], prefill["n_depth"]) == (10, 0, 0)
    assert (generation["n_prompt"], generation["n_gen"], generation["n_depth"]) == (0, 5, 10)
    assert generation["avg_ts"] == pytest.approx(100.0)
    assert generation["avg_ns"] == pytest.approx(0.04e9)
    assert generation["stddev_ts"] == 0
    assert (generation["backends"], generation["n_threads"], generation["model_size"]) == ("a", 2, 1000)


def test_csv_and_jsonl_hold_the_same_records():
    from_csv = list(csv.DictReader(io.StringIO(tables.as_csv([RUN]))))
    from_jsonl = [json.loads(line) for line in tables.as_jsonl([RUN]).splitlines()]
    assert len(from_csv) == len(from_jsonl) == 2 * len(RUN.rows)
    assert [float(each["median_ts"]) for each in from_csv] == [each["median_ts"] for each in from_jsonl]
    assert json.loads(from_csv[0]["samples_ts"]) == from_jsonl[0]["samples_ts"]


def test_a_row_that_failed_is_in_every_form():
    failed = run(row("a"), replace(row("b"), samples=(), loaded=None, peak_memory=None, error="b: no"))
    assert tables.cells([failed])[1] == ["*", "b", "-", "-", "0", "-", "-", "-", "-", "-"]
    assert "b: no" in tables.as_csv([failed])
    assert "b: no" in page([failed])


class Outline(HTMLParser):
    """Notes the tags of a page, and fails at one that is closed wrongly."""

    def __init__(self):
        super().__init__()
        self.open, self.seen, self.links = [], [], []

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        self.links += [value for name, value in attrs if name in ("href", "src")]
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_well_formed_and_fetches_nothing():
    html = page([RUN, FOREIGN])
    outline = Outline()
    outline.feed(html)
    assert outline.open == []
    assert outline.links == []
    assert "script" not in outline.seen
    assert not re.search(r"url\(|@import|https?://(?!www\.w3\.org/2000/svg)", html)
    assert outline.seen.count("svg") == 4
    assert "prefers-color-scheme: dark" in html
    assert "@media print" in html


def test_the_page_says_who_is_faster_in_one_sentence():
    assert "a decodes 2 times as fast as b on Imaginary 9000 (cpu)." in page([RUN])
    alike = run(row("a"), row("b", (0.009, 0.011) * 4))
    assert "No difference was found between b and a on Imaginary 9000 (cpu), on a noisy machine." in page([alike])
    few = run(row("a", (0.01,) * 3), row("b", (0.02,) * 3))
    assert "There are too few rounds to say whether a or b decodes faster" in page([few])
    unranked = run(row("a"), row("b"))
    bare = replace(LOADED, draws=())
    unranked = replace(unranked, rows=tuple(replace(each, loaded=bare) for each in unranked.rows))
    assert "Nothing here may be ranked" in page([unranked])


def test_what_a_file_says_of_itself_is_text_and_never_markup():
    evil = "<script>alert(1)</script>"
    html = page([run(row(evil), model=replace(MODEL, reference=evil), hardware=replace(HARDWARE, cpu=evil))])
    assert "<script" not in html
    assert "&lt;script&gt;" in html


def test_a_bar_ends_where_its_value_is():
    svg = ET.fromstring(
        charts.bars("t", [Bar(("a", ""), 50.0, 40.0, 60.0, "50", 100.0), Bar(("b", ""), 100.0, 90.0, 100.0, "x")], "u")
    )
    widths = [float(rect.get("width")) for rect in svg.iter("{http://www.w3.org/2000/svg}rect")]
    assert widths[1] == pytest.approx(2 * widths[0], abs=0.2)


def test_a_distribution_over_decades_has_a_logarithmic_axis():
    curve = Curve("a", ((1.0, 0.0), (10.0, 0.5), (100.0, 1.0)))
    svg = charts.distributions("t", [curve], x_name="ms")
    (path,) = re.findall(r'd="M([^"]+)" class="line0 dash0"', svg)[:1]
    xs = [float(point.split()[0]) for point in path.split("L")]
    assert xs[1] - xs[0] == pytest.approx(xs[2] - xs[1], abs=0.2)


@given(st.floats(1e-3, 1e6), st.floats(1.0, 1e4))
def test_ticks_are_few_and_reach_around_the_values(low, factor):
    high = low * factor
    for ticks in (charts.steps(low, high), charts.decades(low, high)):
        assert ticks[0] <= low * (1 + 1e-9)
        assert ticks[-1] >= high * (1 - 1e-9)
        assert ticks == sorted(ticks)
        assert len(ticks) <= 16
