"""What lookahead gains on MLX, beside mlx-lm's own loop, as lines of text: `python -m bench.lookahead [MODEL]`.

Without MODEL it is a thin model of 32 layers with random weights, whose passes are short, so that waiting shows; MODEL
is a GGUF, a folder of MLX or Hugging Face, or any reference. All loops run in turn on the same weights in this process:
mlx-lm's `generate_step`, phiplug without lookahead and with it. It takes about a minute on a GPU.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from mlx.utils import tree_map
from mlx_lm.generate import generate_step
from mlx_lm.sample_utils import make_logits_processors, make_sampler

from phiplug.engine import Engine
from phiplug.errors import PhiplugError
from phiplug.load import load
from phiplug.sampling import Sampler
from phiplug.spi import LoadOptions, ModelFiles, ModelInfo
from phiplug.types import Request, SamplingParams
from phiplug_mlx.classes import mlx_lm_module
from phiplug_mlx.devices import CHUNKS, devices, mlx_device
from phiplug_mlx.model import MLXModel
from phiplug_mlx.model import load as load_mlx
from phiplug_mlx.weights import Loaded
from phiplug_toy.tokenizer import ByteTokenizer

PROMPT = (1, 422, 253, 260, 1190, 282, 253, 19)
WIDTH = 49_152
SAMPLINGS = {
    "greedy": SamplingParams(temperature=0.0, repeat_penalty=1.0, seed=0),
    "default": SamplingParams(temperature=0.8, top_p=0.95, repeat_penalty=1.1, repeat_last_n=64, seed=1),
}


class Letters(ByteTokenizer):
    """A tokenizer of as many ids as the thin model has, each of which is one letter."""

    vocab_size = WIDTH

    def token_bytes(self, token: int) -> bytes:
        """Return a letter."""
        return b"%c" % (97 + token % 26)


def thin_model(device: str, slots: int = 1) -> MLXModel:
    """Return a Llama of 32 layers that are 256 wide, with random weights: float32 on a CPU, float16 elsewhere."""
    llama = mlx_lm_module("llama")
    arguments = llama.ModelArgs(
        model_type="llama",
        hidden_size=256,
        num_hidden_layers=32,
        intermediate_size=768,
        num_attention_heads=4,
        rms_norm_eps=1e-5,
        vocab_size=WIDTH,
        num_key_value_heads=2,
        tie_word_embeddings=True,
    )
    mx.random.seed(0)
    with mx.stream(mlx_device(device)):
        module = llama.Model(arguments)
        dtype = mx.float32 if device == "cpu" else mx.float16
        module.update(tree_map(lambda array: (3 * array).astype(dtype), module.parameters()))
        mx.eval(module.parameters())
    info = ModelInfo(
        WIDTH, 2048, slots, device, "random", mx.__version__, CHUNKS[device], features=frozenset({"copy", "guess"})
    )
    return MLXModel(Loaded(module, WIDTH, 2048, "random", {}), info, mlx_device(device))


def engine_of(reference: str) -> Engine:
    """Load a file or a folder, which needs no installed plugin and no tokenizer, or what a reference names."""
    path = Path(reference)
    if not path.exists():
        return load(reference, backend="mlx", ctx_size=2048).engine
    files = ModelFiles(reference, path, "folder" if path.is_dir() else "gguf")
    return Engine(load_mlx(files, LoadOptions(ctx_size=2048)), Letters(), backend="mlx")


def ours(engine: Engine, sampling: SamplingParams, count: int, *, ahead: bool, streams: int = 1) -> float:
    """Return phiplug's seconds per pass after the first, text and all."""
    engine.scheduler.lookahead.is_on = ahead
    asked = [
        Request(PROMPT, sampling, max_tokens=count, ignore_stop_ids=True, reuse=False, repeatable=streams == 1)
        for _ in range(streams)
    ]
    return next(reversed([*engine.completions(asked)])).timings.decode_s / (count - 1)


def theirs(engine: Engine, sampling: SamplingParams, count: int) -> float:
    """Return the seconds per token after the first of mlx-lm's loop, ids alone."""
    how: dict[str, Any] = {}  # Any: what mlx-lm makes
    if sampling.temperature:
        how["sampler"] = make_sampler(temp=sampling.temperature, top_p=sampling.top_p)
        how["logits_processors"] = make_logits_processors(repetition_penalty=1.1, repetition_context_size=64)
    model: Any = engine.model  # mlx-lm's loop wants the module inside
    with mx.stream(mlx_device(engine.model.info.device)):
        steps = itertools.islice(generate_step(mx.array(PROMPT), model.module, max_tokens=count, **how), count)
        times = [time.perf_counter() for _ in steps]
    return (times[-1] - times[0]) / (count - 1)


def draw_times(device: str, width: int, sampling: SamplingParams, rounds: int = 30) -> tuple[float, float]:
    """Return the median seconds of one draw on the device, by itself, and of one on the host, from a peaked row."""
    row = (np.random.default_rng(0).normal(size=width) * 3).astype(np.float32)
    history = [*range(100, 164)]
    there, here = [], []
    with mx.stream(mlx_device(device)):
        array = mx.array(row)
        mx.eval(array)
        for _ in range(rounds):
            sampler = Sampler(sampling, PROMPT, history)
            draw = sampler.ahead(width)
            assert draw is not None
            started = time.perf_counter()
            mx.eval(draw(mx, array))
            there.append(time.perf_counter() - started)
            started = time.perf_counter()
            sampler(row)
            here.append(time.perf_counter() - started)
    return statistics.median(there), statistics.median(here)


def compare(engine: Engine, sampling: SamplingParams, count: int, rounds: int) -> dict[str, list[float]]:
    """Run the three loops in turn; return the seconds per token of each, one for each round."""
    loops: dict[str, Callable[[], float]] = {
        "generate_step": lambda: theirs(engine, sampling, count),
        "without": lambda: ours(engine, sampling, count, ahead=False),
        "with": lambda: ours(engine, sampling, count, ahead=True),
    }
    for loop in loops.values():
        loop()
    taken: dict[str, list[float]] = {name: [] for name in loops}
    for turn in range(rounds):
        for name in [*loops][:: 1 if turn % 2 else -1]:
            taken[name].append(loops[name]())
    return taken


def ratio(taken: Mapping[str, list[float]], name: str, to: str) -> float:
    """Return how many times as fast one loop is as another: the median over the rounds."""
    return statistics.median(theirs / mine for theirs, mine in zip(taken[to], taken[name], strict=True))


def guesses(engine: Engine, sampling: SamplingParams, count: int) -> str:
    """Return what became of the guesses of one answer."""
    engine.scheduler.lookahead.is_on = True
    request = Request(PROMPT, sampling, max_tokens=count, ignore_stop_ids=True, reuse=False, repeatable=True)
    usage = engine.submit(request).completion().usage
    return f"{usage.guesses_asked} guesses, {usage.guesses_right} right, {usage.guesses_wrong} wrong"


def report(name: str, engine: Engine, count: int, rounds: int) -> None:
    """Print the figures of one model."""
    info = engine.model.info
    device = getattr(mx, "device_info", dict)().get("device_name", "")
    print(f"{name} on {info.device} {device}, mlx {mx.__version__}: {rounds} rounds of {count} tokens", flush=True)
    for how, sampling in SAMPLINGS.items():
        try:
            taken = compare(engine, sampling, count, rounds)
        except PhiplugError as error:  # a device that lacks an operation
            print(f"  {how}: {error}", flush=True)
            continue
        speeds = ", ".join(f"{loop} {1 / statistics.median(times):.1f}/s" for loop, times in taken.items())
        print(f"  {how}: {speeds}", flush=True)
        print(
            f"  {how}: of generate_step, without {ratio(taken, 'without', 'generate_step'):.3f}, "
            f"with {ratio(taken, 'with', 'generate_step'):.3f}; "
            f"with of without {ratio(taken, 'with', 'without'):.3f}; {guesses(engine, sampling, count)}"
        )
        there, here = draw_times(info.device, info.vocab_size, sampling)
        print(f"  {how}: one draw by itself: device {1e3 * there:.2f} ms, host {1e3 * here:.2f} ms", flush=True)


def together(device: str, count: int, rounds: int) -> None:
    """Print what lookahead gains where eight streams share the passes of the thin model."""
    engine = Engine(thin_model(device, slots=8), Letters(), backend="mlx")
    for how, sampling in SAMPLINGS.items():
        taken: dict[str, list[float]] = {"without": [], "with": []}
        for turn in range(rounds + 1):
            for ahead in ("without", "with"):
                seconds = ours(engine, sampling, count, ahead=ahead == "with", streams=8)
                taken[ahead] += [seconds] if turn else []
        print(
            f"  8 streams, {how}: {8 / statistics.median(taken['without']):.1f}/s without, "
            f"{8 / statistics.median(taken['with']):.1f}/s with; with of without {ratio(taken, 'with', 'without'):.3f}",
            flush=True,
        )
    engine.close()


def main() -> None:
    """Print the figures of the thin model, and of the one that is named."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", metavar="MODEL", help="a GGUF, a folder or a reference")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, help="of each answer (default: 256, on a CPU 48)")
    parser.add_argument("--no-thin", action="store_true", help="only MODEL")
    asked = parser.parse_args()
    device = devices()[0]
    count = asked.tokens or (48 if device == "cpu" else 256)
    if not asked.no_thin:
        engine = Engine(thin_model(device), Letters(), backend="mlx")
        report("a thin model of 32 layers", engine, count, asked.rounds)
        engine.close()
        together(device, min(count, 64), asked.rounds)
    for reference in asked.models:
        engine = engine_of(reference)
        report(reference, engine, count, asked.rounds)
        engine.close()


if __name__ == "__main__":
    main()
