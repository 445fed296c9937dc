"""`make bench`: every suite in turn, one table of ratios, and last one line of JSON."""

from __future__ import annotations

import argparse
import importlib
import json
from dataclasses import asdict

from rich import box
from rich.console import Console
from rich.table import Table

from bench.pairs import Row

SUITES = ("bench_llama_cpp", "bench_startup", "bench_sampling")


def show(rows: list[Row]) -> None:
    """Print the table and the JSON line."""
    table = Table("suite", "contestant", box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("median", "per second", "ratio"):
        table.add_column(heading, justify="right")
    previous = ""
    for row in rows:
        table.add_row(
            "" if row.suite == previous else row.suite,
            row.name,
            f"{row.seconds * 1e3:.3f} ms",
            f"{row.rate:.1f}",
            f"{row.ratio:.3f}",
        )
        previous = row.suite
    Console(highlight=False).print(table)
    print(json.dumps([asdict(row) for row in rows]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("suites", nargs="*", default=SUITES, help=f"some of {', '.join(SUITES)}")
    rows: list[Row] = []
    for suite in parser.parse_args().suites:
        rows += importlib.import_module(f"bench.{suite}").rows()
    show(rows)


if __name__ == "__main__":
    main()
