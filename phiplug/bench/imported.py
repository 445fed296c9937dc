"""Reads what other programs measured, so that it stands beside our rows: llama-bench's JSON.

Such a file has no checksum of the weights, no prompt ids and no draws. So nothing of it is ranked or divided by, and
what is not known reads "?". It knows nothing of files' places and tables' columns.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import zip_longest
from pathlib import Path, PureWindowsPath
from typing import Any

from phiplug.bench.figures import summary
from phiplug.bench.machines import shortened
from phiplug.bench.record import built
from phiplug.errors import InvalidParameter
from phiplug.printable import printable
from phiplug.userfiles import read_text

UNKNOWN = "?"
PROGRAM = "llama-bench"
RESULTS = {
    "n_prompt",
    "n_gen",
    "n_depth",
    "test_time",
    "avg_ns",
    "stddev_ns",
    "avg_ts",
    "stddev_ts",
    "samples_ns",
    "samples_ts",
}
"""What llama-bench says of a test; all else is the configuration that it ran in."""

WHY = (
    "not known are the weights' checksum, the prompt ids and the draws; llama-bench leaves sampling out, "
    "and its prompt is synthetic"
)


@dataclass(frozen=True, slots=True)
class Record:
    """One record of llama-bench, by its own names; None and "" where an older version did not say."""

    n_prompt: int
    n_gen: int
    samples_ts: tuple[float, ...]
    model_filename: str
    n_depth: int = 0
    cpu_info: str = ""
    gpu_info: str = ""
    backends: str = ""
    model_type: str = ""
    model_size: int | None = None
    model_n_params: int | None = None
    n_threads: int | None = None
    build_commit: str = ""
    test_time: str = ""

    def __post_init__(self) -> None:
        if not self.samples_ts or min(self.samples_ts) <= 0:
            raise ValueError("samples_ts has no rates above 0")
        if min(self.n_prompt, self.n_gen, self.n_depth) < 0 or not (self.n_prompt or self.n_gen):
            raise ValueError("n_prompt, n_gen and n_depth are no test")

    @property
    def name(self) -> str:
        """What llama-bench calls it: pp512, tg128, tg128 @ d512."""
        kind = "+".join(f"{what}{count}" for what, count in (("pp", self.n_prompt), ("tg", self.n_gen)) if count)
        return kind + (f" @ d{self.n_depth}" if self.n_depth else "")


@dataclass(frozen=True, slots=True)
class Imported:
    """A test of prefill and one of decoding in one configuration, or one of them alone.

    Attributes:
        setting: what sets this configuration apart from the others of its file.
        file: its name.
    """

    prefill: Record | None
    decode: Record | None
    setting: str
    file: str

    @property
    def known(self) -> Record:
        """Either test; they share a configuration."""
        found = self.prefill or self.decode
        assert found is not None  # noqa: S101  nothing is made of no test
        return found

    @property
    def name(self) -> str:
        """What it is called in tables."""
        tests = (test.name for test in (self.prefill, self.decode) if test)
        return ", ".join(filter(None, (PROGRAM, *tests, self.setting)))

    @property
    def machine(self) -> str:
        """The chip, as far as the file says it."""
        return shortened(self.known.gpu_info or self.known.cpu_info)


def load(path: Path) -> list[Imported]:
    """Read what `llama-bench -o json` wrote.

    Raises:
        InvalidParameter: the file cannot be read, or is none of llama-bench's.
    """
    hint = f"{PROGRAM} -o json writes what is meant"
    try:
        records = json.loads(read_text("from", path))
    except (ValueError, RecursionError):
        raise InvalidParameter("from", f"{path} is no JSON", hint=hint) from None
    if not isinstance(records, list) or not records or not all(isinstance(each, dict) for each in records):
        raise InvalidParameter("from", f"{path} is no list of {PROGRAM}'s records", hint=hint)
    try:
        tests = [built(Record, record) for record in records]
    except (ValueError, LookupError, TypeError) as error:
        raise InvalidParameter("from", f"{path} is no list of {PROGRAM}'s records: {error}", hint=hint) from None
    return list(_paired(records, tests, path.name))


def _paired(records: Sequence[Mapping[str, Any]], tests: Sequence[Record], file: str) -> Iterator[Imported]:
    """Set the tests of prefill and of decoding side by side, in order, where nothing else of them differs."""
    settings = [{name: value for name, value in each.items() if name not in RESULTS} for each in records]
    differing = [name for name in settings[0] if any(each.get(name) != settings[0][name] for each in settings)]
    groups: dict[str, list[Record]] = {}
    spelt = {}
    for setting, test in zip(settings, tests, strict=True):
        key = json.dumps([setting, test.n_depth], sort_keys=True)
        groups.setdefault(key, []).append(test)
        spelt[key] = ", ".join(_spelt(name, setting.get(name)) for name in differing)
    for key, group in groups.items():
        prefills = [test for test in group if not test.n_gen]
        decodes = [test for test in group if not test.n_prompt]
        for prefill, decode in zip_longest(prefills, decodes):
            yield Imported(prefill, decode, spelt[key], file)
        yield from (Imported(None, both, spelt[key], file) for both in group if both.n_prompt and both.n_gen)


def _spelt(name: str, value: object) -> str:
    return printable(f"{name} {PureWindowsPath(str(value)).name if name == 'model_filename' else value}")


def cells(rows: Sequence[Imported], headings: Sequence[str]) -> list[list[str]]:
    """Return a line of text for each, by the columns' names; what is not known reads "?"."""
    return [[_known(row).get(name, UNKNOWN) for name in headings] for row in rows]


def _known(row: Imported) -> Mapping[str, str]:
    return {
        "#": "*",
        "machine": row.machine,
        "work": "",  # its tests are in its name
        "engine": row.name,
        "model": model_name(row.known),
        "prefill/s": _rate(row.prefill),
        "decode/s": _rate(row.decode) if row.decode and not row.decode.n_prompt else UNKNOWN,
        "x first": "-",
    }


def _rate(test: Record | None) -> str:
    found = summary(test.samples_ts) if test else None
    return found.spelt() if found else UNKNOWN


def remarks(rows: Sequence[Imported]) -> Iterator[str]:
    """Yield what a reader must know of each, and why it has neither a rank nor a ratio."""
    for row in rows:
        known = row.known
        threads = known.n_threads if known.n_threads is not None else UNKNOWN
        size = f"{known.model_size / 1e6:.0f} MB" if known.model_size else UNKNOWN
        rounds = " and ".join(str(len(test.samples_ts)) for test in (row.prefill, row.decode) if test)
        yield (
            f"{row.name}: {row.file}, build {known.build_commit or UNKNOWN}, {known.backends or UNKNOWN} "
            f"on {row.machine}, threads {threads}; model {model_name(known)}, {known.model_type or UNKNOWN}, {size}; "
            f"{rounds} rounds"
        )
    if rows:
        yield f"* what {PROGRAM} measured is not ranked, and nothing is divided by it: {WHY}"


def model_name(test: Record) -> str:
    """Return the last part of the path of the model, from whatever system it came."""
    return PureWindowsPath(test.model_filename).name or UNKNOWN


def records(rows: Sequence[Imported], names: Sequence[str]) -> Iterator[dict[str, Any]]:  # Any: what JSON holds
    """Yield each test as it came, under these names; None where it does not say."""
    for row in rows:
        for test in filter(None, (row.prefill, row.decode)):
            found = asdict(test) | {
                "model_filename": model_name(test),
                "samples_ts": list(test.samples_ts),
                "avg_ts": statistics.fmean(test.samples_ts),
                "median_ts": statistics.median(test.samples_ts),
                "mode": PROGRAM,
                "not_ranked_because": WHY,
            }
            yield {name: found.get(name) for name in names}
