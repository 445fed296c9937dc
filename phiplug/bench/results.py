"""Results that people share: where one lies, what is wrong with it, and the table over all of them.

A result is a run and its page, in a folder called after the chip, as in results/apple-m4-pro/phi-3-mini-1a2b3c4d.json.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from phiplug.bench.compare import lines
from phiplug.bench.fairness import notes
from phiplug.bench.figures import Summary, figure
from phiplug.bench.machines import chip
from phiplug.bench.page import page
from phiplug.bench.record import as_json, load, save
from phiplug.bench.tables import markdown
from phiplug.errors import InvalidParameter
from phiplug.userfiles import read_text, write_text

if TYPE_CHECKING:
    from phiplug.bench.compare import Line
    from phiplug.bench.types import Run

FOLDER = Path("results")
BEGIN, END = "<!-- the table, which `make results` writes -->", "<!-- the end of the table -->"
HOMES = re.compile(r"(?:/home/|/Users/|/root/|\\Users\\)[^\s\"/\\]*")
PUBLIC = ("hf:", "package:")  # references whose slashes are nobody's folders
HEADINGS = ("work", "machine", "model", "engine", "prefill/s", "decode/s", "result")


def place(run: Run, folder: Path = FOLDER) -> Path:
    """Return where a run belongs; two runs never share a place."""
    digest = hashlib.sha256(json.dumps(as_json(run), sort_keys=True).encode()).hexdigest()
    return folder / slug(chip(run)) / f"{slug(title(run))}-{digest[:8]}.json"


def slug(text: str) -> str:
    """Return a text as a part of a path: small letters, digits, hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "unknown"


def title(run: Run) -> str:
    """Return the name of the workload, or the model and the lengths where it has none."""
    work = run.workload
    return work.name or f"{Path(run.model.reference).stem} {work.lengths}"


def share(run: Run, folder: Path = FOLDER) -> list[Path]:
    """Write a run and its page where they belong; return their paths.

    Raises:
        InvalidParameter: something is wrong with the run, or a file cannot be written.
    """
    if wrong := list(problems(run)):
        raise InvalidParameter("share", f"this run is no result to share: {'; '.join(wrong)}")
    target = place(run, folder)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidParameter("share", f"{target.parent} cannot be made: {error.strerror}") from None
    save(run, target)
    return [target, write_page(target, run)]


def write_page(path: Path, run: Run) -> Path:
    """Write the page of a run beside its file; return where it is."""
    beside = path.with_suffix(".html")
    write_text("share", beside, page([run]))
    return beside


def problems(run: Run) -> Iterator[str]:
    """Yield what keeps a run from being a result: rounds that are missing, a machine or a model not known, paths."""
    if not run.complete:
        yield "it was interrupted"
    if not any(row.samples for row in run.rows):
        yield "no row has a round"
    for row in run.rows:
        if not (row.samples or row.error):
            yield f"{row.contender.name} has neither rounds nor an error"
    for what, known in (
        ("the processor", run.hardware.cpu),
        ("the machine's id", re.fullmatch(r"[0-9a-f]{12}", run.hardware.id)),
        ("the model's SHA-256", all(re.fullmatch(r"[0-9a-f]{64}", run.model_of(row).sha256) for row in run.rows)),
        ("the prompt's SHA-256", re.fullmatch(r"[0-9a-f]{64}", run.workload.sha256)),
    ):
        if not known:
            yield f"{what} is not known"
    references = {run.model_of(row).reference for row in run.rows}
    private = [each for each in references if re.search(r"[/\\]", each) and not each.startswith(PUBLIC)]
    for found in sorted({*HOMES.findall(_words(run)), *private}):
        yield f"it holds a path, {found}"


def words_of(run: Run, names: Sequence[str]) -> list[str]:
    """Return those of some names, a host's or a user's, that a run holds as words of their own."""
    text = _words(run)
    return [name for name in names if name and re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text)]


def _words(run: Run) -> str:
    """Return all texts of a run, one a line, as they were before JSON escaped them."""
    found: list[str] = []
    left: list[object] = [as_json(run)]
    while left:
        value = left.pop()
        if isinstance(value, str):
            found.append(value)
        elif isinstance(value, dict):
            left += [*value, *value.values()]
        elif isinstance(value, list | tuple):
            left += value
    return "\n".join(found)


def problems_of_file(path: Path) -> list[str]:
    """Return what is wrong with a file among the results; nothing where all is well."""
    try:
        run = load(path)
        shown = read_text("page", path.with_suffix(".html"))
    except InvalidParameter as error:
        return [str(error)]
    wrong = list(problems(run))
    if not path.parent.name.startswith(slug(chip(run))):
        wrong.append(f"its folder is not called {slug(chip(run))}")
    if shown != page([run]):
        wrong.append("the page beside it is not the run's; `make results` writes that")
    return wrong


def description(run: Run, paths: Sequence[Path]) -> str:
    """Return what to put in the pull request that adds a result: a title, the files, the table."""
    files = "\n".join(f"* `{path.as_posix()}`" for path in paths)
    return f"Result: {title(run)} on {chip(run)}\n\n{files}\n\n{markdown([run])}"


def table(folder: Path) -> str:
    """Return, as Markdown, a line for each engine of each result, by work and model, the fastest decoding first."""
    found = [(path, line) for path in sorted(folder.glob("*/*.json")) for line in lines([load(path)])]
    shown = [(path, line) for path, line in found if _is_shown(line)]
    shown.sort(key=lambda each: (_group(each[1]), -_rate(each[1], "decode_tps").median))
    head = ["| " + " | ".join(HEADINGS) + " |", "| " + " | ".join(["---"] * 4 + ["--:"] * 2 + ["---"]) + " |"]
    return "\n".join([*head, *("| " + " | ".join(_cells(path, line, folder)) + " |" for path, line in shown)]) + "\n"


def with_table(text: str, written: str) -> str:
    """Put a table between the marks of a page.

    Raises:
        InvalidParameter: the page has no marks.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise InvalidParameter("results", f"the page has no {BEGIN} and {END}")
    return f"{before}{BEGIN}\n{written}{END}{after}"


def _is_shown(line: Line) -> bool:
    who = line.entry.row.contender
    return who.mode == "phiplug" and who.slots == 1 and bool(line.entry.row.samples) and line.decode is not None


def _group(line: Line) -> tuple[str, str]:
    work = line.entry.run.workload
    return work.name or work.lengths, line.entry.model.reference


def _rate(line: Line, name: str) -> Summary:
    found = figure(name, line.entry.row, line.entry.run.workload)
    return found or Summary((), 0.0, 0.0, 0.0)


def _cells(path: Path, line: Line, folder: Path) -> list[str]:
    run, row, model = line.entry.run, line.entry.row, line.entry.model
    loaded = row.loaded
    threads = f", {loaded.threads} threads" if loaded and loaded.threads else ""
    noise = " (noisy)" if notes(run) else ""
    inside = path.relative_to(folder).as_posix()
    return [
        _group(line)[0],
        f"{chip(run)}, {run.hardware.logical_cores} cores",
        f"{model.reference}{f', {model.quantization}' if model.quantization else ''}",
        f"{row.contender.backend}{f' on {loaded.device}' if loaded else ''}{threads}{' *' if line.reasons else ''}",
        _rate(line, "prefill_tps").spelt(),
        _rate(line, "decode_tps").spelt() + noise,
        f"[run]({inside}), [page]({inside.removesuffix('.json')}.html)",
    ]
