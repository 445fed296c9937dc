"""Loads a GGUF file as it was asked for, or raises an error that says what is wrong with the file or the request.

llama.cpp reports most damage by returning nothing and logging the reason, which becomes the message here. Some values
make it abort the process instead: `hyperparameters` refuses those that are known, and `trial` finds the others.
"""

from __future__ import annotations

import ctypes
import os
import platform
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from phiplug.checks import context_length
from phiplug.errors import ModelCorrupt, ModelUnsupported, OutOfMemory, PhiplugError, UnsupportedParameter
from phiplug.gguf import Header, read_header
from phiplug.spi import Feature, LoadOptions, ModelFiles, ModelInfo
from phiplug_llama_cpp import DEVICES, install_command, probe, trial
from phiplug_llama_cpp.bits import Bits, bits_of
from phiplug_llama_cpp.contexts import CHUNK, cells, open_context
from phiplug_llama_cpp.functions import Functions, ProgressCallback
from phiplug_llama_cpp.hyperparameters import check_hyperparameters
from phiplug_llama_cpp.interrupt import CtrlC
from phiplug_llama_cpp.library import Library, library
from phiplug_llama_cpp.mapped import MappedFiles
from phiplug_llama_cpp.memory import cache_bytes, memory_limit
from phiplug_llama_cpp.threads import candidates, usable_cores
from phiplug_llama_cpp.tuning import Tuning

if TYPE_CHECKING:
    from phiplug_llama_cpp.model import LlamaCppModel

MAX_THREADS = 512  # GGML_MAX_N_THREADS; beyond, ggml or OpenMP ends the process

_REASON = re.compile(r"error loading model: (?:error loading model \w+: )?(.+)")
_REPEATED = re.compile(r"failed to load model from")  # said of a damaged header, after what is wrong with it
_SPEAKER = re.compile(r"^\w+: ")  # the function that complains
_UNSUPPORTED = re.compile(
    r"unknown (model architecture|tokenizer|pre-tokenizer)|not supported|unsupported", re.IGNORECASE
)
_NO_MEMORY = re.compile(r"(unable|failed) to allocate|out of memory|cudaMalloc", re.IGNORECASE)
_DEVICE = re.compile(r"using device (\w+?)(\d*) ")


@dataclass(frozen=True, slots=True)
class Plan:
    """What was asked for, checked against what the build can do.

    Attributes:
        on_cpu: no layer goes to a GPU.
        gpu_layers: as llama.cpp counts them: -1 for all.
        fixed_threads: the user's number, or None for a measured one.
        cores: how many threads are sensible at most.
    """

    on_cpu: bool
    gpu_layers: int
    fixed_threads: int | None
    cores: int


def load(files: ModelFiles, options: LoadOptions) -> LlamaCppModel:
    """Load a GGUF file, or a split one by its first part.

    `options.exact_scales` needs nothing done: llama.cpp computes with the blocks as they are in the file.

    Raises:
        ModelNotFound: the file has gone or cannot be read.
        ModelCorrupt: it is damaged; the message says where.
        ModelUnsupported: this llama.cpp does not know its kind.
        UnsupportedParameter: the device, the GPU layers, the threads, the slots or the context cannot be had.
        BackendUnavailable: the engine is missing or does not load.
        OutOfMemory: weights or cells do not fit.
        KeyboardInterrupt: the user interrupted it.
    """
    engine = library()
    plan = _plan(engine, options)
    header = _checked_header(files)
    if plan.on_cpu:  # on a GPU the weights would be copied there twice, which takes as long as it takes
        trial.survive(files, header, options, engine.version)
    return _interruptible(files, options, header)


def load_untried(files: ModelFiles, options: LoadOptions) -> LlamaCppModel:
    """Load a file in this process, whatever becomes of it; raises as `load` does."""
    library()
    return _interruptible(files, options, _checked_header(files))


def _interruptible(files: ModelFiles, options: LoadOptions, header: Header) -> LlamaCppModel:
    with CtrlC() as ctrl_c:  # over all of it: the engine logs through a callback, and what is raised there is lost
        model = _load(files, options, header, ctrl_c)
    if ctrl_c.pressed:
        model.close()
        raise KeyboardInterrupt
    return model


def _checked_header(files: ModelFiles) -> Header:
    header = read_header(files.path)
    _check_tokens(header)
    check_hyperparameters(header)
    return header


def _load(files: ModelFiles, options: LoadOptions, header: Header, ctrl_c: CtrlC) -> LlamaCppModel:
    engine = library()
    plan = _plan(engine, options)
    engine.listen(echo=options.verbose)
    since = engine.log.count
    weights = _open_weights(engine, files.path, plan, ctrl_c)
    try:
        from phiplug_llama_cpp.model import LlamaCppModel  # needs NumPy, which others may import while weights are read

        context = context_length(options.ctx_size, engine.api.llama_model_n_ctx_train(weights))
        cache = _cache(engine.api, weights, header, cells(context, options.slots), plan)
        threads, tuning = _threads(header, plan, options)
        bits = bits_of(header, on_cpu=plan.on_cpu, chunk=CHUNK)
        opened = open_context(engine, weights, options.slots, context, threads, bits)
    except BaseException:
        engine.api.llama_model_free(weights)
        raise
    info = ModelInfo(
        vocab_size=engine.api.llama_vocab_n_tokens(engine.api.llama_model_get_vocab(weights)),
        context_length=context,
        slots=options.slots,
        device="cpu" if plan.on_cpu else _device(engine, since),
        quantization=header.quantization,
        version=engine.version,
        chunk=CHUNK,
        threads=threads,
        equal_passes=bits.equal_passes,
        row_independence=bits.row_independence,
        features=_features(options, tuning),
        cache_bytes=cache,
        metadata=_metadata(engine, since, bits),
    )
    model = LlamaCppModel(engine, opened, info, MappedFiles.of(header), tuning)
    if not engine.is_recorded:
        try:
            model.check_batch()
        except BaseException:
            model.close()
            raise
    return model


def _plan(engine: Library, options: LoadOptions) -> Plan:
    """Settle the device; nothing that was asked for is passed over."""
    gpu = bool(engine.api.llama_supports_gpu_offload())
    devices = tuple(name for name in probe().devices if gpu or name == "cpu")
    if options.device is not None and options.device not in devices:
        raise UnsupportedParameter(
            "device",
            f"{options.device!r}: this build of llama.cpp computes on {', '.join(devices)}",
            hint=install_command(options.device) if options.device in DEVICES else f"`device` may be {devices[0]}",
        )
    if options.device not in (None, "cpu", devices[0]):
        raise UnsupportedParameter("device", f"this build has several, and llama.cpp takes {devices[0]}")
    if options.device not in (None, "cpu") and options.gpu_layers == 0:
        raise UnsupportedParameter("gpu_layers", f"0 would leave nothing for the device {options.device}")
    on_cpu = not gpu or options.device == "cpu" or options.gpu_layers == 0
    if on_cpu and (options.gpu_layers or 0) > 0:
        why = "the device is cpu" if gpu else "this build of llama.cpp computes on the CPU alone"
        raise UnsupportedParameter("gpu_layers", f"{options.gpu_layers} layers cannot go to a GPU: {why}")
    if (options.threads or 0) > MAX_THREADS:
        raise UnsupportedParameter("threads", f"{options.threads} are asked for, and llama.cpp takes {MAX_THREADS}")
    most = engine.api.llama_max_parallel_sequences()
    if options.slots > most:
        raise UnsupportedParameter("slots", f"{options.slots} are asked for, and llama.cpp keeps {most} apart at most")
    layers = 0 if on_cpu else -1 if options.gpu_layers is None else options.gpu_layers
    return Plan(on_cpu, layers, options.threads, usable_cores())


def _check_tokens(header: Header) -> None:
    """Refuse a vocabulary with the same text twice, at which llama.cpp aborts the process."""
    tokens = [token for token in header.metadata.get("tokenizer.ggml.tokens", ()) if token]  # empty ones may repeat
    if len(set(tokens)) == len(tokens):
        return
    seen: set[str] = set()
    twice = next(token for token in tokens if token in seen or seen.add(token))  # type: ignore[func-returns-value]
    raise ModelCorrupt(f"{header.path.name} is damaged: tokenizer.ggml.tokens has {twice!r} twice")


def _open_weights(engine: Library, path: Path, plan: Plan, ctrl_c: CtrlC) -> int:
    """Map the weights. Repacking (`use_extra_bufts`) made no difference to the time for SmolLM2's Q4_1: 0.08 s."""
    api, since = engine.api, engine.log.count
    goes_on = ProgressCallback(lambda _, __: not ctrl_c.pressed)
    nowhere = (ctypes.c_void_p * 1)(None)  # an empty list of devices: else the KV cache would still go to the GPU
    parameters = api.llama_model_default_params()
    engine.set(parameters, n_gpu_layers=plan.gpu_layers)
    if engine.is_recorded:  # no default tells pointers apart; without this one, Ctrl-C waits until the file is loaded
        engine.set(parameters, progress_callback=ctypes.cast(goes_on, ctypes.c_void_p).value)
    if plan.on_cpu and api.llama_supports_gpu_offload():
        engine.set(parameters, devices=ctypes.addressof(nowhere))
    if "AMX_INT8" in _cpu_features(api):
        engine.set(parameters, use_extra_bufts=False)  # why: docs/decisions/amx.md
    weights: int | None = api.llama_model_load_from_file(os.fsencode(path), parameters)
    if weights and not ctrl_c.pressed and (kind := _unsuited(api, weights)) is None:
        return weights
    if weights:
        api.llama_model_free(weights)
    ctrl_c.raise_if_pressed()
    raise (
        ModelUnsupported(f"{path.name} is {kind}, and here text is generated from left to right")
        if weights
        else _load_failure(path, engine, since)
    )


def _unsuited(api: Functions, weights: int) -> str | None:
    """Name the kind of a model that llama.cpp runs and that does not continue text."""
    if api.llama_model_has_encoder(weights):
        return "an encoder-decoder model"
    if api.llama_model_is_diffusion(weights):
        return "a diffusion model"
    return None if api.llama_model_has_decoder(weights) else "an encoder model"


def _load_failure(path: Path, engine: Library, since: int) -> PhiplugError:
    """Turn what llama.cpp logged into an error; its last lines may only repeat that there was one."""
    complaints = engine.log.complaints(since)
    told = [match[1] for line in complaints if (match := _REASON.search(line)) and not _REPEATED.search(match[1])]
    reason = (told or [_SPEAKER.sub("", line) for line in complaints] or ["it gave no reason"])[0]
    message = f"llama.cpp cannot load {path.name}: {reason}"
    if _NO_MEMORY.search(reason):
        return OutOfMemory(message, hint="take a smaller model or quantization")
    if _UNSUPPORTED.search(reason):
        return ModelUnsupported(message, hint=f"a newer {engine.provider.distribution} may know it")
    return ModelCorrupt(message)


def _threads(header: Header, plan: Plan, options: LoadOptions) -> tuple[int, Tuning | None]:
    """Settle the first number of threads, and how it may change; where a GPU computes, it hardly matters."""
    if plan.fixed_threads is not None:
        return plan.fixed_threads, None
    if not plan.on_cpu:
        return plan.cores, None
    key = f"llama-cpp threads: {platform.node()}, {plan.cores} cores: {header.path.name}, {header.weight_bytes} bytes"
    tuning = Tuning(candidates(plan.cores), options.cache, key)
    return tuning.choice.count, tuning


def _features(options: LoadOptions, tuning: Tuning | None) -> frozenset[Feature]:
    copies: frozenset[Feature] = frozenset({"copy"} if options.slots > 1 else ())
    return copies | {"autotune"} if tuning else copies


def _cache(api: Functions, weights: int, header: Header, cells: int, plan: Plan) -> int | None:
    """Return the bytes of the key-value cache, or None where a model has another kind of state.

    One that is larger than the memory is refused: zeroing it would end in the system killing us.
    """
    if api.llama_model_is_recurrent(weights) or api.llama_model_is_hybrid(weights):
        return None
    layers = header.hyperparameter("block_count")
    needed = cache_bytes(header, cells, on_gpu=layers if plan.gpu_layers < 0 else plan.gpu_layers)
    if needed > (most := memory_limit()):
        raise OutOfMemory(
            f"the key-value cache would take {needed / 1e9:.1f} GB, and there are {most / 1e9:.1f} GB of memory",
            hint="lower --ctx-size",
        )
    return cache_bytes(header, cells)


def _device(engine: Library, since: int) -> str:
    """Name the GPU that llama.cpp said it uses: "CUDA0" is cuda:0, "MTL0" is metal."""
    match = _DEVICE.search(engine.log.find("using device", since) or "")
    if match is None:
        return "gpu"
    name = match[1].lower()
    return "metal" if name in ("mtl", "metal") else f"{name}:{match[2] or 0}"


def _cpu_features(api: Functions) -> list[str]:
    """Name what the build and this CPU have in common: "AVX2", "AMX_INT8", ..."""
    return re.findall(r"(\w+) = 1", api.llama_print_system_info().decode())


def _metadata(engine: Library, since: int, bits: Bits) -> dict[str, str]:
    """Gather what speed and logits depend on; llama.cpp says what it made of flash attention where it was to decide."""
    flash = engine.log.find("Flash Attention", since) or ("enabled" if bits.context else "unknown")
    offloaded = engine.log.find("offloaded", since)
    metadata = {
        "features": " ".join(_cpu_features(engine.api)),
        "flash attention": flash.rpartition(" ")[2],
        "kv cache": "f16 keys, bf16 values" if bits.context else "f16",
        "batch": f"{CHUNK} tokens",
    }
    return metadata | ({"offloaded": offloaded.partition("offloaded ")[2]} if offloaded else {})
