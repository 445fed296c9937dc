"""Writes runs as a table for people, as Markdown, or as one record a test in llama-bench's names.

llama-bench measures prefill and generation as tests of their own, so a row becomes two records. Generation comes after
the prompt here, which llama-bench calls a depth.
"""

from __future__ import annotations

import csv
import io
import json
import math
import statistics
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from phiplug.bench import imported
from phiplug.bench.compare import lines, overhead
from phiplug.bench.fairness import disagreement, kinship, notes
from phiplug.bench.figures import bandwidth_limit, figure
from phiplug.bench.machines import are_several, machine_name, run_name, work_name

if TYPE_CHECKING:
    from phiplug.bench.compare import Line
    from phiplug.bench.imported import Imported
    from phiplug.bench.intervals import Ratio
    from phiplug.bench.types import ModelIdentity, Row, Run

LEFT = ("#", "machine", "work", "engine", "model")  # columns of texts; the others hold numbers


def headings(runs: Sequence[Run], beside: Sequence[Imported] = ()) -> list[str]:
    """Return the columns' names: a machine only where there are several, joules only where there is a meter."""
    machine = ["machine"] if are_several(runs) or beside else []
    work = ["work"] if any(work_name(run, runs) for run in runs) else []
    model = ["model"] if are_several_files([run.model_of(row) for run in runs for row in run.rows]) or beside else []
    memory = ["MB/token", "of limit"] if any(_limit(run, row) for run in runs for row in run.rows) else []
    joules = ["J/token"] if _metered(runs) else []
    return [
        "#",
        *machine,
        *work,
        "engine",
        *model,
        "prefill/s",
        "decode/s",
        *memory,
        "x first",
        "TTFT ms",
        "p50/p95/p99 ms",
        *joules,
        "peak MB",
    ]


def are_several_files(models: Sequence[ModelIdentity]) -> bool:
    """Whether they are not all one file."""
    return len({model.sha256 for model in models}) > 1


def cells(runs: Sequence[Run], beside: Sequence[Imported] = ()) -> list[list[str]]:
    """Return a line of text cells for each row of the runs; an asterisk stands for a rank that is refused."""
    names = headings(runs, beside)
    return [*(_cells(line, runs, names) for line in lines(runs)), *imported.cells(beside, names)]


def _cells(line: Line, runs: Sequence[Run], names: Sequence[str]) -> list[str]:
    run, row = line.entry.run, line.entry.row
    machine = [machine_name(run, runs)] if "machine" in names else []
    work = [work_name(run, runs)] if "work" in names else []
    model = [run.model_of(row).reference] if "model" in names else []
    joules = [_number(run, row, "energy_j_per_token", "{:.2f}")] if _metered(runs) else []
    gaps = "/".join(_number(run, row, f"itl_{which}_s", "{:.1f}", 1e3) for which in ("p50", "p95", "p99"))
    return [
        _place(line),
        *machine,
        *work,
        row.contender.name,
        *model,
        _number(run, row, "prefill_tps", "{:.1f}", quartiles=True),
        _number(run, row, "decode_tps", "{:.1f}", quartiles=True),
        *(_memory(line) if "of limit" in names else []),
        "-" if line.reasons else interval(line.decode),
        _number(run, row, "ttft_s", "{:.0f}", 1e3),
        gaps if row.samples else "-",
        *joules,
        f"{row.peak_memory / 1e6:.0f}" if row.peak_memory else "-",
    ]


def _memory(line: Line) -> tuple[str, str]:
    """Say how many bytes of weights a token reads, and at what share of the rate at which memory is copied."""
    per_token, share = line.entry.model.bytes_per_token, _share_of_limit(line.entry.run, line.entry.row)
    return f"{per_token / 1e6:.0f}" if per_token else "-", "-" if share is None else f"{share:.0%}"


def _limit(run: Run, row: Row) -> float | None:
    """Return the memory's limit; that of several sequences at once, which share a reading, is not known."""
    return bandwidth_limit(run, row) if row.contender.slots == 1 else None


def _share_of_limit(run: Run, row: Row) -> float | None:
    limit, median = _limit(run, row), _median(run, row, "decode_tps")
    return median / limit if limit and median else None


def interval(ratio: Ratio | None) -> str:
    """Spell a ratio with its interval; a row beside itself has none."""
    if ratio is None:
        return "-"
    value = f"{ratio.value:.3f}"
    if ratio.low == ratio.high == 1:
        return value
    if math.isinf(ratio.high):
        return f"{value}, too few rounds"
    bounds = f"[{ratio.low:.3f}, {ratio.high:.3f}]"
    return f"{value} {bounds}" if ratio.is_difference else f"no difference found {bounds}"


def remarks(runs: Sequence[Run], beside: Sequence[Imported] = ()) -> list[str]:
    """Return, as sentences, what a reader of the table must know: work, weights, engines, refusals, disturbances."""
    said = ["rates: median [quartiles] of the rounds; x first: ratio [99% interval]"]
    told = [list(_remarks(run)) for run in runs]
    everywhere = [text for text in told[0] if all(text in each for each in told)]
    said += everywhere
    for run, texts in zip(runs, told, strict=True):
        name = run_name(run, runs)
        said += [f"{name}: {text}" if name else text for text in texts if text not in everywhere]
    for line in lines(runs):
        if line.reasons:
            name = run_name(line.entry.run, runs)
            where = f", {name}," if name else ""
            said.append(f"* {line.entry.row.contender.name}{where} is not ranked: {'; '.join(line.reasons)}")
    return [*said, *imported.remarks(beside)]


def _remarks(run: Run) -> Iterator[str]:
    hardware, work = run.hardware, run.workload
    gpus = f", {', '.join(hardware.gpus)}" if hardware.gpus else ""
    yield (
        f"{hardware.cpu}, {hardware.logical_cores} cores, {hardware.memory / 2**30:.0f} GiB{gpus}, {hardware.system}, "
        f"copies {hardware.copy_bytes_per_s / 1e9:.1f} GB/s"
    )
    yield from _models(run)
    name = f"workload {work.name}: " if work.name else ""
    before = f" after {work.depth} others" if work.depth else ""
    ids = f"{work.prompt_tokens} prompt ids{before} with SHA-256 {work.sha256[:12]}"
    yield f"{name}{ids}, then {work.gen_tokens} tokens"
    if run.delay_s:
        yield f"{run.delay_s:g} s of rest before each round"
    for backend, row in {row.contender.backend: row for row in run.rows if row.loaded}.items():
        yield f"{backend}: {about(row)}"
    yield from _draws(run)
    for backend, share in overhead(run).items():
        yield f"{backend}: decoding through phiplug over the bare engine: {interval(share)}"
    if not _metered([run]):
        yield "energy: n/a, there is no meter that may be read"
    yield from (f"noise: {text}" for text in notes(run))


def _models(run: Run) -> Iterator[str]:
    """Say which file each backend had, and where they are several, what these have in common."""
    first, *others = {row.contender.backend: run.model_of(row) for row in run.rows}.items()
    bits = f", {first[1].bits_per_weight:.2f} bits per weight" if first[1].bits_per_weight else ""
    yield f"model {first[1].reference}, SHA-256 {first[1].sha256[:12]}{bits}"
    for backend, model in others:
        if model.sha256 != first[1].sha256:
            yield f"{backend} and {first[0]} have {kinship(model, first[1])}"


def _draws(run: Run) -> Iterator[str]:
    """Say how often each backend drew other tokens than the first did, and what is allowed."""
    rows = list({row.contender.backend: row for row in run.rows if row.loaded}.values())
    for row in rows[1:]:
        if found := disagreement(row, rows[0]):
            yield (
                f"{row.contender.backend} beside {rows[0].contender.backend}: {found.share:.1%} of draws with one seed "
                f"differ (standard error {found.standard_error:.1%}, {found.positions} positions); an engine beside "
                f"itself: {found.floor:.1%} ({found.floor_error:.1%}); up to {found.allowed:.1%} is ranked"
            )


def about(row: Row) -> str:
    """Say on one line what a backend loaded, and where."""
    if row.loaded is None:
        return row.error or "not loaded"
    loaded = row.loaded
    threads = f", {loaded.threads} thread{'s' if loaded.threads > 1 else ''}" if loaded.threads else ""
    device = f", {row.device_memory / 1e6:.0f} MB on its device" if row.device_memory else ""
    return (
        f"{loaded.version} on {loaded.device}{threads}, {loaded.quantization}, loaded in {loaded.load_s:.2f} s{device}"
    )


def markdown(runs: Sequence[Run], beside: Sequence[Imported] = ()) -> str:
    """Return the table and the remarks as Markdown."""
    names = headings(runs, beside)
    head = [names, [":--" if name in LEFT else "--:" for name in names]]
    table = "\n".join("| " + " | ".join(each) + " |" for each in [*head, *cells(runs, beside)])
    return table + "\n\n" + "\n".join(f"* {text.removeprefix('* ')}" for text in remarks(runs, beside)) + "\n"


def records(runs: Sequence[Run], beside: Sequence[Imported] = ()) -> Iterator[dict[str, Any]]:  # Any: what JSON holds
    """Yield two flat records a row: prefill and generation, in llama-bench's names where a figure is the same."""
    for line in lines(runs):
        run, row, work = line.entry.run, line.entry.row, line.entry.run.workload
        yield {**_shared(line), **_test(run, row, "prefill_tps", n_prompt=work.prompt_tokens, n_depth=work.depth)}
        depth = work.depth + work.prompt_tokens
        yield {**_shared(line), **_test(run, row, "decode_tps", n_gen=work.gen_tokens, n_depth=depth)}
        names = [*_shared(line), *_test(run, row, "decode_tps")]
    if beside:
        yield from imported.records(beside, names)


def as_jsonl(runs: Sequence[Run], beside: Sequence[Imported] = ()) -> str:
    """Return the records, one JSON object a line."""
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records(runs, beside))


def as_csv(runs: Sequence[Run], beside: Sequence[Imported] = ()) -> str:
    """Return the records under one line of names; lists are written as JSON."""
    found = list(records(runs, beside))
    if not found:
        return ""
    out = io.StringIO()
    writer = csv.DictWriter(out, fieldnames=list(found[0]), lineterminator="\n")
    writer.writeheader()
    for record in found:
        writer.writerow({name: json.dumps(v) if isinstance(v, list) else v for name, v in record.items()})
    return out.getvalue()


def _shared(line: Line) -> dict[str, Any]:  # Any: what JSON holds
    run, row, model = line.entry.run, line.entry.row, line.entry.model
    loaded = row.loaded
    return {
        "cpu_info": run.hardware.cpu,
        "gpu_info": ", ".join(run.hardware.gpus),
        "backends": row.contender.backend,
        "model_filename": model.reference,
        "model_type": (loaded.quantization if loaded else model.quantization),
        "model_size": model.size,
        "model_n_params": model.parameters,
        "n_threads": loaded.threads if loaded else None,
        "test_time": run.started,
        "mode": row.contender.mode,
        "slots": row.contender.slots,
        "hardware_id": run.hardware.id,
        "model_sha256": model.sha256,
        "prompt_sha256": loaded.prompt_sha256 if loaded else None,
        "bits_per_weight": model.bits_per_weight,
        "bytes_per_token": model.bytes_per_token,
        "share_of_limit": _share_of_limit(run, row),
        "device": loaded.device if loaded else None,
        "engine_version": loaded.version if loaded else None,
        "rank": line.rank,
        "not_ranked_because": "; ".join(line.reasons),
        "load_s": loaded.load_s if loaded else None,
        "peak_memory": row.peak_memory,
        "device_memory": row.device_memory,
        **{name: _median(run, row, name) for name in ("ttft_s", "itl_p50_s", "itl_p95_s", "itl_p99_s")},
        "energy_j_per_token": _median(run, row, "energy_j_per_token"),
    }


def _test(
    run: Run, row: Row, name: str, *, n_prompt: int = 0, n_gen: int = 0, n_depth: int = 0
) -> dict[str, Any]:  # Any: what JSON holds
    found = figure(name, row, run.workload)
    rates = list(found.values) if found else []
    tokens = row.contender.slots * (n_prompt or n_gen - 1)
    times = [round(1e9 * tokens / rate) for rate in rates]
    return {
        "n_prompt": n_prompt,
        "n_gen": n_gen,
        "n_depth": n_depth,
        "avg_ns": round(statistics.fmean(times)) if times else None,
        "stddev_ns": round(statistics.stdev(times)) if len(times) > 1 else 0,
        "avg_ts": statistics.fmean(rates) if rates else None,
        "stddev_ts": statistics.stdev(rates) if len(rates) > 1 else 0.0,
        "median_ts": found.median if found else None,
        "q1_ts": found.q1 if found else None,
        "q3_ts": found.q3 if found else None,
        "samples_ns": times,
        "samples_ts": rates,
    }


def _place(line: Line) -> str:
    if line.entry.row.contender.mode == "engine" and not line.reasons:
        return ""
    return str(line.rank) if line.rank else "*"


def _median(run: Run, row: Row, name: str) -> float | None:
    found = figure(name, row, run.workload)
    return found.median if found else None


def _number(run: Run, row: Row, name: str, spelt: str, unit: float = 1.0, *, quartiles: bool = False) -> str:
    found = figure(name, row, run.workload)
    if found is None:
        return "-"
    return found.spelt(spelt) if quartiles else spelt.format(unit * found.median)


def _metered(runs: Sequence[Run]) -> bool:
    return any(sample.energy_j is not None for run in runs for row in run.rows for sample in row.samples)
