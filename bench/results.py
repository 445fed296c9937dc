"""Rebuilds the pages of all results and the table of results/README.md: `make results`."""

from __future__ import annotations

from pathlib import Path

from phiplug.bench.record import load
from phiplug.bench.results import FOLDER, table, with_table, write_page
from phiplug.userfiles import read_text, write_text


def main(folder: Path = FOLDER) -> None:
    """Write the page of each result of a folder, and the table of all into its README."""
    for result in sorted(folder.glob("*/*.json")):
        write_page(result, load(result))
    page = folder / "README.md"
    write_text("results", page, with_table(read_text("results", page), table(folder)))


if __name__ == "__main__":
    main()
