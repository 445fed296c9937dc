"""The values of a benchmark: what was run on what, and every raw sample.

They know nothing of how it is measured or shown. All times are seconds of a monotonic clock, all sizes bytes, all
energies joules.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Mode = Literal["phiplug", "engine"]

SEEDS = 8
"""With so many seeds each engine draws at every forced position."""


def lengths(prompt_tokens: int, gen_tokens: int, depth: int) -> str:
    """Return numbers of tokens as tables spell them: 512+128 @ d1024."""
    return f"{prompt_tokens}+{gen_tokens}" + (f" @ d{depth}" if depth else "")


@dataclass(frozen=True, slots=True)
class Workload:
    """The same work for every contender.

    Attributes:
        prompt_tokens: how long the prompt is.
        gen_tokens: how many tokens are generated, end of sequence or not.
        sha256: of the prompt's ids, with those before it, as little-endian 32-bit integers.
        name: under which it is known, or None.
        depth: how many tokens the context holds before the prompt.
    """

    prompt_tokens: int
    gen_tokens: int
    sha256: str
    name: str | None = None
    depth: int = 0

    @property
    def lengths(self) -> str:
        """The numbers of tokens, as tables spell them."""
        return lengths(self.prompt_tokens, self.gen_tokens, self.depth)


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """Which weights were run.

    Attributes:
        reference: what the user wrote, or a path's last part.
        format: "gguf", "folder", or a plugin's own.
        sha256: of the file, or of a folder's weight files' names and checksums.
        size: of the weight files together.
        parameters: how many numbers the weights are, or None.
        bits_per_weight: of all weights together, scales included, or None.
        bytes_per_token: how many bytes of weights one token of a dense model has to read, or None.
        quantization: as the file says it, or None.
        name: what its makers call it, without the place that it lay in, or None.
        shape: layers, width and heads, which every format of the same weights has alike, or None.
    """

    reference: str
    format: str
    sha256: str
    size: int
    parameters: int | None = None
    bits_per_weight: float | None = None
    bytes_per_token: int | None = None
    quantization: str | None = None
    name: str | None = None
    shape: str | None = None


@dataclass(frozen=True, slots=True)
class Hardware:
    """The machine, and what runs on it.

    Attributes:
        id: twelve hexadecimal digits made of the CPU, cores, memory, GPUs and system; updates do not change it.
        cpu: its name.
        physical_cores: how many, or None where the system does not say.
        logical_cores: how many.
        memory: of the machine.
        gpus: their names, memory and drivers.
        system: "Linux", "Darwin", "Windows".
        release: of the system.
        machine: the architecture: "x86_64", "arm64".
        python: implementation and version.
        phiplug: its version.
        copy_bytes_per_s: bytes read plus bytes written per second by a large copy on all cores.
        metadata: what plugins add.
    """

    id: str
    cpu: str
    physical_cores: int | None
    logical_cores: int
    memory: int
    gpus: tuple[str, ...]
    system: str
    release: str
    machine: str
    python: str
    phiplug: str
    copy_bytes_per_s: float
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a backend said when it had loaded the model and was warm.

    Attributes:
        device: where it computes.
        quantization: what the weights are as the engine holds them.
        version: of the engine.
        threads: how many, or None.
        metadata: build flags, dtypes and whatever else it says.
        load_s: how long loading took, with the system's file cache as it was.
        prompt_sha256: of the ids that its tokenizer made of the built-in texts; as in `Workload`.
        draws: the tokens that it drew after each of the forced positions, one for each of `SEEDS` seeds.
        floor: the share of draws that differ between its own prefill and its decoding one by one, or None.
        floor_error: the standard error of `floor`.
    """

    device: str
    quantization: str
    version: str
    threads: int | None
    metadata: Mapping[str, str]
    load_s: float
    prompt_sha256: str
    draws: tuple[int, ...] = ()
    floor: float | None = None
    floor_error: float = 0.0


@dataclass(frozen=True, slots=True)
class Contender:
    """Who is measured: a backend, through phiplug or bare, with so many sequences at once."""

    backend: str
    mode: Mode = "phiplug"
    slots: int = 1

    @property
    def name(self) -> str:
        """What it is called in tables and in the record."""
        mode = ", bare engine" if self.mode == "engine" else ""
        return f"{self.backend}{mode}" + (f", {self.slots} slots" if self.slots > 1 else "")


@dataclass(frozen=True, slots=True)
class Sample:
    """One round of one contender.

    Attributes:
        prefill_s: from the request to the first logits; of several sequences, of the last one.
        ttft_s: from the request to the first text that is not empty, or None; of several, of the last one.
        decode_s: from the first token to the last, all sequences decoding.
        wall_s: from the request to its end.
        arrivals_s: for each sequence, when each of its tokens was handed over, since the request.
        output: the first 16 hexadecimal digits of the SHA-256 of all generated ids.
        energy_j: by a real meter, or None.
    """

    prefill_s: float
    ttft_s: float | None
    decode_s: float
    wall_s: float
    arrivals_s: tuple[tuple[float, ...], ...]
    output: str
    energy_j: float | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """A contender and what became of it.

    Attributes:
        contender: who.
        loaded: None where loading failed.
        samples: one for each finished round, none left out.
        peak_memory: the largest resident size of the worker and its children together, all its rows together.
        device_memory: the largest size of what the engine allocated on its device, or None where it does not say.
        error: why there are no more samples, or None.
        model: which weights, where they are others than the run's.
    """

    contender: Contender
    loaded: Loaded | None = None
    samples: tuple[Sample, ...] = ()
    peak_memory: int | None = None
    device_memory: int | None = None
    error: str | None = None
    model: ModelIdentity | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """One `phiplug bench`.

    Attributes:
        started: when, in UTC, as ISO 8601 has it.
        model: of all rows that do not name another.
        complete: whether every round was finished.
        delay_s: of rest before each round but the first.
        cell: which model, and with how many threads where those were fixed: its place in a grid beside the lengths.
        options: to load with, which were named beside the threads.
        grid: whether it is one of several of a file, which are told apart by their cells.
        rounds: how many were asked for.
        others_cpu: how many cores other processes, or other guests of a virtual machine's host, took meanwhile; None
            where that was too short to tell.
        throttled: how often the CPU was slowed down by heat meanwhile, or None where the system does not say.
    """

    started: str
    model: ModelIdentity
    workload: Workload
    hardware: Hardware
    rows: tuple[Row, ...]
    rounds: int = 0
    complete: bool = True
    others_cpu: float | None = None
    throttled: int | None = None
    delay_s: float = 0.0
    cell: str = ""
    options: str = ""
    grid: bool = False

    def model_of(self, row: Row) -> ModelIdentity:
        """Return the weights that a row of this run had."""
        return row.model or self.model
