"""The rule of docs/sampling.md in plain Python: no NumPy tricks, no state, everything sorted, all sums in float64.

Steps 2 to 5 are float32, as the rule says; `f32` rounds to it. The fast sampler is held to this one, and somebody who
writes a sampler in another language can read it as the specification.
"""

import math
import struct
from dataclasses import dataclass

from phiplug.types import SamplingParams

MASK = 2**64 - 1
G = 0x9E3779B97F4A7C15
LARGEST = (2 - 2**-23) * 2.0**127  # of float32


class NotFinite(Exception):
    pass


@dataclass(frozen=True)
class Drawn:
    """What came of one row.

    Attributes:
        token: the id that was drawn.
        probabilities: of the ids that survived the filters; they sum to 1.
        margin: the least relative distance of anything that decided: the nucleus boundary or min_p from the mass next
            to it, the smallest z from the next. Below 1e-6 the rule leaves the choice open.
    """

    token: int
    probabilities: dict[int, float]
    margin: float


def f32(x):
    """Round to the nearest float32."""
    try:
        return struct.unpack("f", struct.pack("f", x))[0]
    except OverflowError:
        return math.copysign(math.inf, x)


def mix(z):
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def key(seed, prompt):
    hashes = (mix((mix((i + 1) * G & MASK) + token) & MASK) for i, token in enumerate(prompt))
    return mix((mix((seed + G) & MASK) + sum(hashes)) & MASK)


def u(key, position, token):
    k = mix((key + position * G) & MASK)
    h = mix((token * G + k) & MASK)
    return ((h >> 12) + 0.5) * 2.0**-52


def draw(params: SamplingParams, logits, prompt=(), sampled=()) -> Drawn:
    params = params.seeded()  # its window and scope are settled too
    x = [float(logit) for logit in logits]
    require_finite(x)  # 1
    for token, bias in params.logit_bias.items():  # 2
        x[token] = f32(x[token] + f32(bias))
    history = [*prompt, *sampled] if params.penalize_prompt else list(sampled)
    n = params.repeat_last_n
    for token in set(history if n == -1 else history[-n:] if n else []):  # 3
        r = f32(params.repeat_penalty)
        x[token] = f32(quotient(x[token], r)) if x[token] > 0 else f32(x[token] * r)
    for token in set(sampled):  # 4
        lowered = f32(f32(sampled.count(token) * f32(params.frequency_penalty)) + f32(params.presence_penalty))
        x[token] = f32(x[token] - lowered)
    require_finite(x)
    top = max(x)
    if params.temperature < 1e-6:  # 5
        return Drawn(x.index(top), {x.index(top): 1.0}, math.inf)
    temperature = min(f32(params.temperature), LARGEST)
    t = [f32(f32(logit - top) / temperature) for logit in x]
    order = sorted(range(len(t)), key=lambda token: (-t[token], token))
    if params.top_k:  # 6
        order = order[: params.top_k]
    weight = {token: math.exp(t[token]) for token in order}
    order, margin_p = nucleus(order, weight, params.top_p)  # 7
    order, margin_m = probable(order, weight, params.min_p)  # 8
    position, of_request = len(prompt) + len(sampled), key(params.seed, prompt)
    drawn = sorted((-math.log(u(of_request, position, i)) / weight[i], i) for i in order if weight[i] > 0)  # 9
    margin_z = drawn[1][0] / drawn[0][0] - 1 if len(drawn) > 1 else math.inf
    mass = math.fsum(weight[token] for token in order)
    probabilities = {token: weight[token] / mass for token in order if weight[token] > 0}
    return Drawn(drawn[0][1], probabilities, min(margin_p, margin_m, margin_z))


def nucleus(order, weight, p):
    if p >= 1:
        return order, math.inf
    mass = math.fsum(weight[token] for token in order)
    kept, held, margin = 0, 0.0, math.inf
    while kept < len(order) and (kept == 0 or held < p * mass):
        held += weight[order[kept]]
        kept += 1
        margin = min(margin, abs(held / mass - p))
    return order[:kept], margin


def probable(order, weight, m):
    if m == 0:
        return order, math.inf
    limit = m * weight[order[0]]
    kept = [token for token in order if weight[token] >= limit]
    others = [weight[token] for token in order if weight[token] != weight[order[0]]]  # the largest is never in doubt
    return kept, min((abs(other / limit - 1) for other in others), default=math.inf)


def quotient(x, y):
    """Divide as IEEE 754 does."""
    if y == 0:
        return math.nan if x == 0 or math.isnan(x) else math.copysign(math.inf, x)
    return x / y


def require_finite(x):
    if any(math.isnan(logit) or logit == math.inf for logit in x) or max(x) == -math.inf:
        raise NotFinite
