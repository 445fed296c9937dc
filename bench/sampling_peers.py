"""Other programs' samplers behind one call that draws a token from a row, with the same stages as phiplug's own.

Nothing here belongs to a model: llama.cpp's chain and mlx-lm's functions take any row. Each is made for one row, which
it draws from again and again while its history grows.
"""

from __future__ import annotations

import ctypes
import importlib.util
from collections.abc import Callable, Sequence

import numpy as np

from phiplug.types import SamplingParams

Draw = Callable[[], int]
CANDIDATE = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])  # llama_token_data


def llama_cpp_chain(params: SamplingParams, logits: np.ndarray, history: Sequence[int]) -> Draw:
    """llama.cpp's chain through its C API, in phiplug's order; filling its array of candidates is part of it."""
    from llama_cpp import llama_cpp as llama

    width = len(logits)
    chain = llama.llama_sampler_chain_init(llama.llama_sampler_chain_default_params())
    for stage in _stages(params, width):
        llama.llama_sampler_chain_add(chain, stage)
    for token in history:
        llama.llama_sampler_accept(chain, token)
    blank = np.zeros(width, CANDIDATE)
    blank["id"] = np.arange(width)
    candidates = blank.copy()
    pointer = candidates.ctypes.data_as(llama.llama_token_data_p)
    array = llama.llama_token_data_array(pointer, width, -1, False)

    def draw() -> int:
        np.copyto(candidates, blank)  # the chain leaves it in another order
        candidates["logit"] = logits
        array.size, array.selected, array.sorted = width, -1, False
        llama.llama_sampler_apply(chain, ctypes.byref(array))
        token = int(candidates["id"][array.selected])
        llama.llama_sampler_accept(chain, token)
        return token

    return draw


def _stages(params: SamplingParams, width: int) -> list:
    from llama_cpp import llama_cpp as llama

    last = llama.llama_sampler_init_dist(1) if params.temperature else llama.llama_sampler_init_greedy()
    stages = []
    if params.repeat_penalty != 1:
        stages.append(llama.llama_sampler_init_penalties(width, 64, params.repeat_penalty, 0.0, 0.0))
    if params.temperature not in (0, 1):
        stages.append(llama.llama_sampler_init_temp(params.temperature))
    if params.top_k:
        stages.append(llama.llama_sampler_init_top_k(params.top_k))
    if params.top_p < 1:
        stages.append(llama.llama_sampler_init_top_p(params.top_p, 1))
    if params.min_p:
        stages.append(llama.llama_sampler_init_min_p(params.min_p, 1))
    return [*stages, last]


def mlx_lm_sampler(params: SamplingParams, logits: np.ndarray, history: Sequence[int]) -> Draw:
    """mlx-lm's processors and sampler on the CPU; the row is an array of its own already."""
    import mlx.core as mx
    from mlx_lm.sample_utils import make_logits_processors, make_sampler

    sampler = make_sampler(temp=params.temperature, top_p=params.top_p, min_p=params.min_p, top_k=params.top_k)
    penalty = params.repeat_penalty if params.repeat_penalty != 1 else None
    processors = make_logits_processors(repetition_penalty=penalty, repetition_context_size=64)
    tokens = list(history)
    row = mx.array(logits)[None]

    def draw() -> int:
        x = row
        with mx.stream(mx.cpu):
            for processor in processors:
                x = processor(mx.array(tokens), mx.array(x))
            token = int(sampler(x - mx.logsumexp(x, keepdims=True)).item())
        tokens.append(token)
        return token

    return draw


def full_sort(params: SamplingParams, logits: np.ndarray, history: Sequence[int]) -> Draw:
    """NumPy with a sort of the whole row, as transformers computes each of its warpers."""
    source, tokens = np.random.default_rng(1), list(history)

    def draw() -> int:
        x = logits.copy()
        if params.repeat_penalty != 1:
            seen = np.array(tokens[-64:])
            x[seen] = np.where(x[seen] < 0, logits[seen] * params.repeat_penalty, logits[seen] / params.repeat_penalty)
        token = int(x.argmax()) if params.temperature == 0 else _warped(x, params, source)
        tokens.append(token)
        return token

    return draw


def _warped(x: np.ndarray, params: SamplingParams, source: np.random.Generator) -> int:
    x /= np.float32(params.temperature)
    if params.top_k:
        x[x < np.partition(x, len(x) - params.top_k)[len(x) - params.top_k]] = -np.inf
    if params.top_p < 1:
        order = np.argsort(x)
        cumulative = np.cumsum(_softmax(x[order]))
        x[order[:-1][cumulative[:-1] <= 1 - params.top_p]] = -np.inf
    if params.min_p:
        probabilities = _softmax(x)
        x[probabilities < params.min_p * probabilities.max()] = -np.inf
    return int(np.searchsorted(np.cumsum(_softmax(x), dtype=np.float64), source.random()))


def _softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max())
    return e / e.sum()


_NEEDED = {"llama.cpp": "llama_cpp", "mlx-lm": "mlx_lm", "full sort": "numpy"}
_ALL: dict[str, Callable[[SamplingParams, np.ndarray, Sequence[int]], Draw]] = {
    "llama.cpp": llama_cpp_chain,
    "mlx-lm": mlx_lm_sampler,
    "full sort": full_sort,
}
PEERS = {name: peer for name, peer in _ALL.items() if importlib.util.find_spec(_NEEDED[name])}
"""Those that are installed."""
