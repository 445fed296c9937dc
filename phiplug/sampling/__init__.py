"""Draws the next token from logits, parameters and a history. docs/sampling.md is the rule; these files carry it out.

Nothing here knows a model, an engine or a text. `sampler` draws the tokens of one sequence; `penalties` adjusts
logits by history; `processors` does so as the user says; `row` is a buffer that knows where its large logits are;
`draw` goes from there to a token quickly, and `filters` to all candidates; `stages` does so for the dialects; `nucleus`
finds top-k and top-p sets without sorting the vocabulary; `noise` makes the Gumbel-max draw.
"""

from phiplug.sampling.row import Row
from phiplug.sampling.sampler import Sampler, sample_rows

__all__ = ["Row", "Sampler", "sample_rows"]
