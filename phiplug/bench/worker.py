"""The process that measures one backend: it reads orders as JSON lines and answers each with a JSON line.

`python -m phiplug.bench.worker` loads a model once and then does one round at a time, when it is told to: so backends
that are measured in turn share neither threads nor memory, and one that crashes takes no other with it. It compares
nothing and judges nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, cast

from phiplug.bench import meters
from phiplug.bench.parity import default_prompts, draws, own_noise
from phiplug.bench.record import built
from phiplug.bench.types import SEEDS, Loaded, Sample
from phiplug.bench.workload import hash_of, prompt_ids
from phiplug.engine.autotune import settle_threads
from phiplug.errors import BackendFailed, PhiplugError
from phiplug.load import load_with
from phiplug.spi import LoadOptions, Step
from phiplug.types import Request, SamplingParams

if TYPE_CHECKING:
    from phiplug.llm import LLM
    from phiplug.spi import Autotunes, Metered, Model

POSITIONS = 128  # are compared at the most, and fit in every context
NOISE_POSITIONS = 64  # are decoded one by one at the most; MLX on a CPU does ten in a second
GREEDY = SamplingParams(temperature=0.0, repeat_penalty=1.0, seed=0)  # so that every round does the same work
SHORT = 32  # tokens of the prompt by which the number of threads is settled


@dataclass(frozen=True, slots=True)
class Task:
    """What a worker loads, how, and how much it runs; in a plan, no reference where every backend has its own."""

    reference: str
    prompt_tokens: int
    gen_tokens: int
    options: LoadOptions = field(default_factory=LoadOptions)
    offline: bool = False
    depth: int = 0

    def load_on(self, backend: str) -> LLM:
        """Load the model on a backend, with a context that holds the work and no more unless the user says one."""
        context = self.options.ctx_size or max(self.depth + self.prompt_tokens + self.gen_tokens, POSITIONS)
        options = replace(self.options, ctx_size=context)
        return load_with(options, self.reference, backend=backend, offline=self.offline)


class Worker:
    """A backend with a model, ready for rounds."""

    def __init__(self, task: Task, backend: str) -> None:
        self._task = task
        self._llm = task.load_on(backend)
        self._ids = prompt_ids(self._llm.tokenizer, task.depth + task.prompt_tokens)
        self._meter = meters.energy_meter()

    def warm_up(self, positions: int) -> tuple[Loaded, float]:
        """Do what the rounds will do once; return what the backend says of itself, and the seconds of one round."""
        texts = default_prompts()
        drawn = draws(self._llm, texts, positions=positions, seeds=SEEDS) if positions else ()
        noise = own_noise(self._llm, texts, positions=min(positions, NOISE_POSITIONS)).draws[0] if positions else None
        self._settle_threads()
        if self._task.options.slots > 1:
            self.round("phiplug", self._task.options.slots)
        sample = self.round("phiplug", 1)
        info = self._llm.info
        loaded = Loaded(
            device=info.device,
            quantization=info.quantization,
            version=info.version,
            threads=info.threads,
            metadata=dict(info.metadata),
            load_s=self._llm.load_s,
            prompt_sha256=hash_of(self._ids),
            draws=tuple(drawn),
            floor=noise.disagreement if noise else None,
            floor_error=noise.standard_error if noise else 0.0,
        )
        return loaded, sample.wall_s

    def round(self, mode: str, slots: int) -> Sample:
        """Run the workload once, through phiplug or on the bare engine."""
        before = self._meter()
        if mode == "engine":
            sample = bare(self._llm.engine.model, self._ids, self._task.gen_tokens, depth=self._task.depth)
        else:
            asked = request(self._ids, self._task.gen_tokens)
            sample = through(self._llm, asked, slots, depth=self._task.depth)
        joules = meters.spent(before, self._meter())
        return Sample(**asdict(sample) | {"energy_j": joules})

    def device_memory(self) -> int | None:
        """Return the most that the engine has allocated on its device so far, where it says so."""
        model = self._llm.engine.model
        return cast("Metered", model).peak_memory() if "meter" in model.info.features else None

    def _settle_threads(self) -> None:
        """Let a model that chooses its number of threads measure each of them, by short requests of one sequence."""
        model = self._llm.engine.model
        if "autotune" in model.info.features:
            cast("Autotunes", model).forget()
            settle_threads(self._llm.engine, self._ids[:SHORT])


def request(ids: tuple[int, ...], count: int) -> Request:
    """Ask for so many tokens, no fewer, and with nothing reused."""
    return Request(ids, GREEDY, max_tokens=count, ignore_stop_ids=True, reuse=False)


def through(llm: LLM, asked: Request, slots: int, *, depth: int = 0) -> Sample:
    """Run one request in each of so many slots, through the whole of phiplug: engine, sampler, text.

    What comes before the prompt is computed first, and no part of what is measured.

    Raises:
        BackendFailed: a slot does not keep that.
    """
    if depth:
        before = replace(asked, prompt_ids=asked.prompt_ids[:depth], max_tokens=1)
        for _ in llm.engine.stream_all([before] * llm.info.slots):  # in all: another may still hold the last prompt
            pass
        asked = replace(asked, reuse=True)
    arrivals: list[list[float]] = [[] for _ in range(slots)]
    tokens: list[list[int]] = [[] for _ in range(slots)]
    ends, kept = [], set()
    started = time.perf_counter()
    for index, chunk in llm.engine.stream_all([asked] * slots):
        if chunk.tokens:
            arrivals[index].append(time.perf_counter() - started)
            tokens[index].extend(chunk.tokens)
        if chunk.timings and chunk.usage:
            ends.append(chunk.timings)
            kept.add(chunk.usage.cached_tokens)
    wall_s = time.perf_counter() - started
    if kept != {depth}:
        raise BackendFailed(f"of {depth} tokens before the prompt this engine keeps {min(kept)}")
    texts = [end.ttft_s for end in ends if end.ttft_s is not None]
    return Sample(
        prefill_s=max(end.prefill_s for end in ends),
        ttft_s=max(texts, default=None),
        decode_s=min(end.decode_s for end in ends),  # of the sequence that began last: all are decoding by then
        wall_s=wall_s,
        arrivals_s=tuple(map(tuple, arrivals)),
        output=_named(tokens),
    )


def bare(model: Model, ids: tuple[int, ...], count: int, *, depth: int = 0) -> Sample:
    """Run the model with nothing around it but an argmax: what the engine could do without phiplug."""
    model.rewind(0, 0)
    size = model.info.chunk
    pieces = [ids[start : start + size] for start in range(depth, len(ids), size)]
    if depth:
        before = [ids[start : min(start + size, depth)] for start in range(0, depth, size)]
        for piece in before[:-1]:
            model.forward([Step(0, piece, rows=0)])
        model.forward([Step(0, before[-1])]).logits()  # waits for all of it
    started = time.perf_counter()
    for piece in pieces[:-1]:
        model.forward([Step(0, piece, rows=0)])
    row = model.forward([Step(0, pieces[-1])]).logits()[0]
    prefill_s = time.perf_counter() - started
    tokens, arrivals = [int(row.argmax())], [time.perf_counter() - started]
    for _ in range(count - 1):
        tokens.append(int(model.forward([Step(0, (tokens[-1],))]).logits()[0].argmax()))
        arrivals.append(time.perf_counter() - started)
    return Sample(
        prefill_s=prefill_s,
        ttft_s=None,
        decode_s=arrivals[-1] - arrivals[0],
        wall_s=time.perf_counter() - started,
        arrivals_s=(tuple(arrivals),),
        output=_named([tokens]),
    )


def _named(tokens: list[list[int]]) -> str:
    return hashlib.sha256(json.dumps(tokens).encode()).hexdigest()[:16]


def serve(orders: Iterator[str], answer: Callable[[Mapping[str, Any]], None]) -> None:  # Any: what JSON holds
    """Obey one order after another; an error is an answer too."""
    worker: Worker | None = None
    for line in orders:
        order = json.loads(line)
        try:
            task = built(Task, order["task"])
            if worker is None:
                worker = Worker(task, order["backend"])
                loaded, seconds = worker.warm_up(order["positions"])
                answer({"loaded": asdict(loaded), "seconds": seconds})
            else:
                cpu = time.process_time()
                sample = worker.round(order["mode"], order["slots"])
                answer(
                    {
                        "sample": asdict(sample),
                        "cpu_s": time.process_time() - cpu,
                        "peak_memory": meters.peak_memory(),
                        "device_memory": worker.device_memory(),
                    }
                )
        except PhiplugError as error:
            answer({"error": str(error)})
        except Exception as error:  # noqa: BLE001  an engine may raise anything, and one line is what is wanted of it
            answer({"error": f"{type(error).__name__}: {error}"})


def main() -> None:
    """Serve this process's stdin and stdout; whatever else writes to stdout goes to stderr."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as out:
        os.dup2(2, 1)

        def answer(value: Mapping[str, Any]) -> None:  # Any: what JSON holds
            out.write(json.dumps(value) + "\n")
            out.flush()

        serve(iter(sys.stdin), answer)


if __name__ == "__main__":
    main()
