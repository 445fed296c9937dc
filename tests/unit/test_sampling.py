import numpy as np
import pytest

from phiplug.errors import InvalidParameter, NonFiniteLogits
from phiplug.sampling import Sampler, sample_rows
from phiplug.types import SamplingParams

PLAIN = SamplingParams(temperature=1.0, top_p=1.0, repeat_penalty=1.0, seed=1)


def row(*values):
    return np.array(values, np.float32)


def test_greedy_takes_the_largest_and_the_lowest_id_on_a_tie():
    assert Sampler(SamplingParams(temperature=0.0, repeat_penalty=1.0, seed=0), [])(row(1, 3, 3, 2)) == 1


@pytest.mark.parametrize("bad", [(1, np.nan), (np.inf, 1), (-np.inf, -np.inf)])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_row_that_is_not_finite_is_refused(bad, temperature):
    with pytest.raises(NonFiniteLogits):
        Sampler(SamplingParams(temperature=temperature, seed=0), [])(row(*bad))


def test_a_row_that_a_bias_makes_infinite_is_refused():
    with pytest.raises(NonFiniteLogits):
        Sampler(SamplingParams(logit_bias={0: 1e300}, seed=0), [])(row(1, 2))


def test_a_biased_id_beyond_the_vocabulary_is_refused():
    with pytest.raises(InvalidParameter, match="logit_bias: token 2 is not in a vocabulary of 2"):
        Sampler(SamplingParams(logit_bias={2: 1.0}, seed=0), [])(row(1, 2))


def test_the_row_is_not_changed():
    logits = row(1, 2, 3)
    logits.flags.writeable = False
    sampler = Sampler(SamplingParams(logit_bias={1: 5.0}, seed=3), [2, 2], [1])
    sampler(logits)
    assert logits.tolist() == [1, 2, 3]


def test_rows_at_once_give_the_ids_of_each_alone():
    logits = np.random.default_rng(5).normal(0, 2, (4, 50)).astype(np.float32)
    params = [SamplingParams(seed=s, temperature=t) for s, t in ((1, 0.0), (2, 0.5), (2, 2.0), (9, 1.0))]
    together = [Sampler(p, [1, 2]) for p in params]
    alone = [Sampler(p, [1, 2]) for p in params]
    for _ in range(5):
        assert sample_rows(together, logits) == [s(r) for s, r in zip(alone, logits, strict=True)]
