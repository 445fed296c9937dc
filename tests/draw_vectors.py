"""Write tests/data/draw_vectors.json from the reference: `python tests/draw_vectors.py`.

With it, a sampler in another language can be checked against docs/sampling.md without running any Python. `u` lists
key, position, id and the noise as a hexadecimal float64, `keys` seed, prompt and key; what has 64 bits is a string,
since JSON readers may not hold it.
`rows` lists logits, or a rule for them (logit of id i = (i * multiplier mod 1024) / 64 - 8, exact in float32), the
history, the parameters that are not neutral, how many ids survive and which is drawn. None is within 1e-4 of a tie.
"""

import json
import random
from pathlib import Path

import reference_sampler as reference

from phiplug.types import SamplingParams

PATH = Path(__file__).parent / "data" / "draw_vectors.json"
NEUTRAL = {"temperature": 1.0, "top_p": 1.0, "repeat_penalty": 1.0}
LARGEST = 2**64 - 1
SETTINGS = [
    {},
    {"temperature": 0.8, "top_p": 0.95, "repeat_penalty": 1.1},
    {"temperature": 0.7, "top_p": 0.9, "top_k": 40},
    {"temperature": 1.5, "min_p": 0.05},
    {"temperature": 0.0, "repeat_penalty": 1.3, "repeat_last_n": 4, "penalize_prompt": True},
    {"top_k": 5, "frequency_penalty": 0.5, "presence_penalty": 0.25},
    {"top_p": 0.0},
    {"top_p": 0.5, "logit_bias": {3: 2.5, 0: -100.0}},
    {"temperature": 0.01},
    {"temperature": 100.0, "top_p": 0.999},
]


def logits_of(row):
    if "logits" in row:
        return row["logits"]
    return [(i * row["multiplier"] % 1024) / 64 - 8 for i in range(row["size"])]


def params_of(row):
    bias = {int(token): value for token, value in row["params"].get("logit_bias", {}).items()}
    return SamplingParams(**NEUTRAL | row["params"] | {"logit_bias": bias}, seed=int(row["seed"]))


def noise_vectors():
    edges = [0, 1, 2**32 - 1, 2**63, LARGEST, 299792458]
    points = [(s, p, i) for s in edges for p in (0, 1, 1000, 2**31) for i in (0, 1, 2, 32063, 128255, 2**32 - 1)]
    return [[str(s), p, i, reference.u(s, p, i).hex()] for s, p, i in points]


def key_vectors():
    prompts = [[], [0], [1], [0, 0], [0, 1], [1, 0], [32063] * 3, list(range(100)), [2**31 - 1]]
    edges = [0, 1, LARGEST, 299792458]
    return [[str(seed), prompt, str(reference.key(seed, prompt))] for seed in edges for prompt in prompts]


def row_vectors():
    source = random.Random(5)
    rows = []
    for index in range(60):
        row = {"seed": str(source.randrange(2**64)), "params": SETTINGS[index % len(SETTINGS)]}
        if index % 6 == 5:
            row |= {"size": source.choice([1000, 5000, 32064]), "multiplier": 2 * source.randrange(1, 512) + 1}
        else:
            row["logits"] = [source.randrange(-64, 64) / 8 for _ in range(source.choice([2, 7, 16, 33, 64]))]
        width = len(logits_of(row))
        row["prompt"] = [source.randrange(width) for _ in range(source.choice([1, 5]))]
        row["sampled"] = [source.randrange(width) for _ in range(source.choice([0, 3, 9]))]
        if "logit_bias" in row["params"] and width < 4:
            continue
        drawn = reference.draw(params_of(row), logits_of(row), row["prompt"], row["sampled"])
        if drawn.margin > 1e-4:
            rows.append(row | {"survivors": len(drawn.probabilities), "token": drawn.token})
    return rows


if __name__ == "__main__":
    parts = [
        f'"{name}": [\n' + ",\n".join(map(json.dumps, rows)) + "\n]"
        for name, rows in (("keys", key_vectors()), ("u", noise_vectors()), ("rows", row_vectors()))
    ]
    PATH.write_text("{" + ",\n".join(parts) + "}\n")
