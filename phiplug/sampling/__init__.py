"""Logits, parameters and history -> the next token. docs/sampling.md is the rule; these files carry it out.

Nothing here knows a model, an engine or a text. `sampler` is the way of one row; `penalties` the adjustments that
depend on history; `nucleus` finds top-k and top-p sets without sorting the vocabulary; `noise` is the draw.
"""

from phiplug.sampling.sampler import Sampler, sample_rows

__all__ = ["Sampler", "sample_rows"]
