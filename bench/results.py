"""Rebuilds the table of results/README.md over all results: `make results`."""

from __future__ import annotations

from pathlib import Path

from phiplug.bench.results import FOLDER, table, with_table
from phiplug.userfiles import read_text, write_text


def main(folder: Path = FOLDER) -> None:
    """Write the table of a folder into its README."""
    page = folder / "README.md"
    write_text("results", page, with_table(read_text("results", page), table(folder)))


if __name__ == "__main__":
    main()
