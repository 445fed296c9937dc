"""Prints the ratios below pytest-benchmark's table, which has no column for them."""

from __future__ import annotations

import pytest

RATIOS = "times_as_fast_as"


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print one line for each benchmark that was measured beside peers."""
    session = getattr(config, "_benchmarksession", None)  # pytest-benchmark offers no public way to its results
    measured = [bench for bench in session.benchmarks if RATIOS in bench.extra_info] if session else []
    if measured:
        terminalreporter.section("how many times as fast as its peers phiplug is")
    for bench in measured:
        ratios = ", ".join(f"{ratio:.3f} {name}" for name, ratio in bench.extra_info[RATIOS].items())
        terminalreporter.write_line(f"{bench.name}: {bench.extra_info['seconds'] * 1e3:.3f} ms; {ratios}")
