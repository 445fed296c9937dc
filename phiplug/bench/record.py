"""A run <-> a file that `pytest-benchmark compare` reads: its schema, one benchmark a row, our figures in extra_info.

One round of pytest-benchmark is one request from beginning to end, in seconds. What phiplug itself reads back is under
the key "phiplug", with every raw sample.
"""

from __future__ import annotations

import json
import math
import statistics
import types
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from phiplug.bench.figures import FIGURES, figure, quantile
from phiplug.bench.types import Row, Run
from phiplug.errors import InvalidParameter
from phiplug.printable import printable
from phiplug.userfiles import read_text, write_text

SCHEMA = 1
"""Raised when a run written before can no longer be read."""

LEAST = 1e-200  # what is nearer to zero was not measured, and its inverse may be infinite
PYTEST_BENCHMARK = "5.3.1"  # the version whose schema this is
T = TypeVar("T")


def save(runs: Run | Sequence[Run], path: Path) -> None:
    """Write a run, or those of a grid, as JSON.

    Raises:
        InvalidParameter: the file cannot be written.
    """
    write_text("output", path, json.dumps(as_json(runs), indent=1, ensure_ascii=False) + "\n")


def load(path: Path) -> Run:
    """Read a file of one run.

    Raises:
        InvalidParameter: as `load_all`, and where there are several.
    """
    run, *others = load_all(path)
    if others:
        raise InvalidParameter("run", f"{path} holds {1 + len(others)} runs, and one is wanted")
    return run


def load_all(path: Path) -> list[Run]:
    """Read the runs of a file.

    Raises:
        InvalidParameter: the file cannot be read, is none of ours, or was written by a newer version.
    """
    try:
        ours = json.loads(read_text("run", path))["phiplug"]
        schema, bodies = ours["schema"], ours["runs"] if "runs" in ours else [ours["run"]]
        bodies = [bodies[0], *bodies[1:]]
    except (ValueError, LookupError, TypeError, RecursionError):
        raise InvalidParameter("run", f"{path} is no run of `phiplug bench`") from None
    if schema != SCHEMA:
        raise InvalidParameter("run", f"{path} has schema {schema!r}, and this phiplug reads {SCHEMA}")
    try:
        return [built(Run, body) for body in bodies]
    except (ValueError, LookupError, TypeError) as error:
        raise InvalidParameter("run", f"{path} is damaged: {error}") from None


def as_json(runs: Run | Sequence[Run]) -> dict[str, Any]:  # Any: what JSON holds
    """Return what is written: pytest-benchmark's five keys, and ours."""
    every = [runs] if isinstance(runs, Run) else list(runs)
    first = every[0]
    kept = {"run": asdict(first)} if len(every) == 1 else {"runs": [asdict(run) for run in every]}
    return {
        "machine_info": _machine(first),
        "commit_info": {"id": "unversioned", "time": first.started, "dirty": False, "branch": "(unknown)"},
        "benchmarks": [_benchmark(row, run) for run in every for row in run.rows if row.samples],
        "datetime": first.started,
        "version": PYTEST_BENCHMARK,
        "phiplug": {"schema": SCHEMA, **kept},
    }


def built(cls: type[T], value: Any) -> T:  # Any: what JSON holds, checked here
    """Make a dataclass of what JSON holds of it.

    Raises:
        TypeError, ValueError, KeyError: a field is missing, or not of its type.
    """
    if not isinstance(value, Mapping):
        raise TypeError(f"a {cls.__name__} is an object, not {type(value).__name__}")
    hints = get_type_hints(cls)
    made = {}
    for each in fields(cls):  # type: ignore[arg-type]  # the callers give dataclasses
        if each.name in value:
            made[each.name] = _fitting(each.name, hints[each.name], value[each.name])
        elif each.default is MISSING and each.default_factory is MISSING:
            raise KeyError(each.name)
    return cls(**made)


def _fitting(name: str, hint: Any, value: Any) -> Any:  # Any: a type, and what JSON holds
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        inner = next(argument for argument in arguments if argument is not type(None))
        return None if value is None else _fitting(name, inner, value)
    if origin is tuple and not isinstance(value, list | tuple):
        raise TypeError(f"{name} is {type(value).__name__}, not a list")
    if origin is tuple:
        kinds = (arguments[0],) * len(value) if arguments[-1] is Ellipsis else arguments
        return tuple(_fitting(name, kind, each) for kind, each in zip(kinds, value, strict=True))
    if origin is Literal:
        if value not in arguments:
            raise ValueError(f"{name} is {value!r}")
        return value
    if is_dataclass(hint):
        return built(hint, value)  # type: ignore[arg-type]  # a dataclass is a type here
    wanted: Any = {float: (int, float), Mapping: Mapping}.get(origin or hint, hint)  # Any: a type, or several
    if not isinstance(value, wanted) or (isinstance(value, bool) and hint is not bool):
        raise TypeError(f"{name} is {type(value).__name__}")
    if isinstance(value, float) and not (value == 0 or LEAST < abs(value) < math.inf):
        raise ValueError(f"{name} is {value}, and must be finite and measurable")
    return printable(value) if isinstance(value, str) else value  # names of other machines' files, and what they say


def _machine(run: Run) -> dict[str, Any]:  # Any: what JSON holds
    """What pytest-benchmark says of a machine; its id stands for the host's name, which is nobody's business."""
    hardware = run.hardware
    implementation, _, version = hardware.python.partition(" ")
    return {
        "node": hardware.id,
        "processor": hardware.machine,
        "machine": hardware.machine,
        "python_implementation": implementation,
        "python_version": version,
        "release": hardware.release,
        "system": hardware.system,
        "cpu": {"brand_raw": hardware.cpu, "arch": hardware.machine, "count": hardware.logical_cores},
    }


def _benchmark(row: Row, run: Run) -> dict[str, Any]:  # Any: what JSON holds
    found = {name: figure(name, row, run.workload) for name in FIGURES}
    model = run.model_of(row)
    depth = f" @ d{run.workload.depth}" if run.workload.depth else ""
    workload = f"pp{run.workload.prompt_tokens}+tg{run.workload.gen_tokens}{depth}"
    return {
        "group": f"{model.reference} {workload}",
        "name": row.contender.name,
        "fullname": f"phiplug bench {model.reference} {workload} {row.contender.name}",
        "params": asdict(row.contender),
        "param": row.contender.name,
        "extra_info": {name: asdict(summary) for name, summary in found.items() if summary}
        | {"peak_memory": row.peak_memory, "device_memory": row.device_memory, "model_sha256": model.sha256},
        "options": {"disable_gc": False, "timer": "perf_counter", "min_rounds": run.rounds, "warmup": 1},
        "stats": _stats([sample.wall_s for sample in row.samples]),
    }


def _stats(data: list[float]) -> dict[str, Any]:  # Any: what JSON holds
    """Return pytest-benchmark's statistics; the names are its own."""
    mean, deviation = statistics.mean(data), statistics.stdev(data) if len(data) > 1 else 0.0
    q1, q3 = quantile(data, 0.25), quantile(data, 0.75)
    low, high = q1 - 1.5 * (q3 - q1), q3 + 1.5 * (q3 - q1)
    far = sum(abs(value - mean) > deviation for value in data)
    outside = sum(not low <= value <= high for value in data)
    return {
        "min": min(data),
        "max": max(data),
        "mean": mean,
        "stddev": deviation,
        "rounds": len(data),
        "iterations": 1,
        "median": statistics.median(data),
        "iqr": q3 - q1,
        "q1": q1,
        "q3": q3,
        "iqr_outliers": outside,
        "stddev_outliers": far,
        "outliers": f"{far};{outside}",
        "ld15iqr": min(value for value in data if value >= low),
        "hd15iqr": max(value for value in data if value <= high),
        "ops": 1 / mean,
        "total": sum(data),
        "data": data,
    }
