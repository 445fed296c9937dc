"""The layers keep the laws that the papers give them."""

import numpy as np
from phiplug_numpy.transformer import Cache, Rotation, attend, rotate, silu, softmax

RNG = np.random.default_rng(1)


def some(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def turned(x: np.ndarray, position: int, magnitude: float = 1.0) -> np.ndarray:
    rotation = Rotation(1.0 / 10_000.0 ** (np.arange(0, 8, 2) / 8), magnitude)
    return rotate(x[None, None], rotation.at(np.array([position])))[0, 0]


def test_a_score_depends_on_the_distance_of_two_tokens_alone() -> None:
    query, key = some(8), some(8)
    near = turned(query, 9) @ turned(key, 4)
    far = turned(query, 2009) @ turned(key, 2004)
    np.testing.assert_allclose(near, far, rtol=1e-5)
    assert abs(near - turned(query, 9) @ turned(key, 5)) > 1e-3


def test_rotation_keeps_lengths_times_the_magnitude_and_the_first_position_as_it_is() -> None:
    x = some(8)
    np.testing.assert_array_equal(turned(x, 0), x)
    np.testing.assert_allclose(np.linalg.norm(turned(x, 77)), np.linalg.norm(x), rtol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(turned(x, 77, 1.5)), 1.5 * np.linalg.norm(x), rtol=1e-6)


def test_numbers_beyond_the_pairs_are_not_rotated() -> None:
    x = some(12)
    np.testing.assert_array_equal(turned(x, 5)[8:], x[8:])
    assert not np.array_equal(turned(x, 5)[:8], x[:8])


def test_a_token_sees_itself_and_those_before_it() -> None:
    queries, keys, values = some(4, 3, 8), some(2, 7, 8), some(2, 7, 8)
    before = attend(queries, keys, values)
    values[:, 6], keys[:, 6] = 100, 100  # the last token
    after = attend(queries, keys, values)
    np.testing.assert_array_equal(after[:2], before[:2])
    assert not np.array_equal(after[2], before[2])


def test_attention_to_one_token_gives_its_value() -> None:
    values = some(2, 1, 8)
    np.testing.assert_allclose(attend(some(4, 1, 8), some(2, 1, 8), values)[0].reshape(4, 8), values.repeat(2, 0)[:, 0])


def test_shared_keys_are_as_keys_of_which_each_head_has_a_copy() -> None:
    queries, keys, values = some(6, 2, 8), some(2, 5, 8), some(2, 5, 8)
    shared = attend(queries, keys, values)
    np.testing.assert_allclose(shared, attend(queries, keys.repeat(3, 0), values.repeat(3, 0)), atol=1e-6)


def test_attention_is_the_formula_in_loops() -> None:
    queries, keys, values = some(2, 2, 4), some(1, 3, 4), some(1, 3, 4)
    expected = np.zeros((2, 8))
    for token in range(2):
        for head in range(2):
            seen = range(2 + token)
            weights = [np.exp(float(queries[head, token] @ keys[0, j]) / 2) for j in seen]
            mixed = sum(weight * values[0, j] for weight, j in zip(weights, seen, strict=True)) / sum(weights)
            expected[token, 4 * head : 4 * head + 4] = mixed
    np.testing.assert_allclose(attend(queries, keys, values), expected, rtol=1e-5)


def test_softmax_sums_to_one_however_large_its_numbers() -> None:
    shares = softmax(np.array([[1000.0, 1001.0, -np.inf]], np.float32))
    np.testing.assert_allclose(shares, [[1 / (1 + np.e), np.e / (1 + np.e), 0]], rtol=1e-6)


def test_silu_is_x_times_its_sigmoid() -> None:
    np.testing.assert_allclose(silu(np.array([0, 1, -1], np.float32)), [0, 0.7310586, -0.26894143], rtol=1e-6)


def test_a_cache_that_grows_keeps_what_it_holds() -> None:
    cache = Cache(np.empty((1, 2, 1, 0, 4), np.float32))
    cache.reserve(3)
    cache.numbers[:, :, :, :3] = held = some(1, 2, 1, 3, 4)
    cache.length = 3
    cache.reserve(10_000)
    np.testing.assert_array_equal(cache.numbers[:, :, :, :3], held)
    assert cache.numbers.shape[3] >= 10_000
