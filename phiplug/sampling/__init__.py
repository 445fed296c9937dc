"""Logits, parameters and history -> the next token. docs/sampling.md is the rule; these files carry it out.

Nothing here knows a model, an engine or a text. `sampler` is the way of one row; `penalties` the adjustments that
depend on history; `row` a buffer that knows where its large logits are; `draw` the way from there to a token, quickly,
and `filters` to all that survive; `stages` the same for the dialects; `nucleus` finds top-k and top-p sets without
sorting the vocabulary; `noise` decides the race.
"""

from phiplug.sampling.row import Row
from phiplug.sampling.sampler import Sampler, sample_rows

__all__ = ["Row", "Sampler", "sample_rows"]
