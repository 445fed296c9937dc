"""How a GGUF says that positions are rotated: what is read, as llama.cpp reads it, and what is refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from phiplug.errors import ModelCorrupt, ModelUnsupported
from phiplug.gguf import Header, read_header
from phiplug.gguf.hyperparameters import trained_context, whole
from phiplug.gguf.rotary import Rotation, rotation_of

HEAD = 8


@pytest.fixture
def header(tmp_path: Path):
    def write(tensors: dict[str, list[float]] | None = None, dtype: Any = np.float32, **values: Any) -> Header:
        writer = gguf.GGUFWriter(tmp_path / "model.gguf", "phi3")
        adders = {int: writer.add_uint32, float: writer.add_float32, str: writer.add_string, list: writer.add_array}
        for name, value in ({"context_length": 100} | values).items():
            adders[type(value)]("phi3." + name.replace("__", "."), value)
        for name, numbers in (tensors or {}).items():
            writer.add_tensor(f"{name}.weight", np.array(numbers, dtype))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return read_header(tmp_path / "model.gguf")

    return write


def test_a_file_that_says_nothing_rotates_whole_heads_by_the_usual_base(header):
    assert rotation_of(header(), HEAD, 100) == Rotation(HEAD, 10_000.0)


@pytest.mark.parametrize("key", ["rope__scaling__factor", "rope__scale_linear"])
@pytest.mark.parametrize(("stretch", "scale"), [(4.0, 0.25), (0.0, 1.0)])
def test_positions_are_divided_by_the_stretch_and_0_is_none(header, key, stretch, scale):
    assert rotation_of(header(**{key: stretch}), HEAD, 100).scale == scale


def test_the_newer_key_counts_even_when_it_is_0(header):
    assert rotation_of(header(rope__scaling__factor=0.0, rope__scale_linear=4.0), HEAD, 100).scale == 1.0


def test_no_scaling_means_none_whatever_its_factor_is(header):
    assert rotation_of(header(rope__scaling__type="none", rope__scaling__factor=4.0), HEAD, 100).scale == 1.0


def test_the_short_factors_serve_up_to_the_original_context_and_the_long_ones_beyond(header):
    sets = {"rope_factors_short": [1.0, 2.0, 3.0, 4.0], "rope_factors_long": [5.0, 6.0, 7.0, 8.0]}
    read = header(sets, rope__scaling__original_context_length=64)
    assert rotation_of(read, HEAD, 64).factors == (1, 2, 3, 4)
    assert rotation_of(read, HEAD, 65).factors == (5, 6, 7, 8)


def test_factors_for_any_context_come_first(header):
    sets = {"rope_freqs": [1.0, 1.0, 1.0, 9.0], "rope_factors_short": [2.0] * 4}
    assert rotation_of(header(sets), HEAD, 100).factors == (1, 1, 1, 9)


def test_a_frequency_is_the_scale_over_factor_and_power_of_the_base():
    rotation = Rotation(4, 100.0, scale=0.5, factors=(1.0, 5.0))
    np.testing.assert_allclose(rotation.frequencies(), [0.5, 0.5 / 5 / 10])
    np.testing.assert_allclose(Rotation(4, 100.0).frequencies(), [1, 0.1])


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"rope__dimension_count": 7}, "7 of the 8 numbers of a head are rotated"),
        ({"rope__dimension_count": 10}, "10 of the 8 numbers of a head are rotated"),
        ({"rope__scaling__factor": -2.0}, r"phi3\.rope\.scaling\.factor is -2\.0"),
        ({"rope__scaling__attn_factor": 0.0}, r"attn_factor is 0\.0"),
        ({"tensors": {"rope_factors_long": [1.0] * 4}}, r"lacks rope_factors_short\.weight"),
        ({"tensors": {"rope_freqs": [1.0] * 3}}, r"rope_freqs\.weight is \(3,\) of F32"),
        ({"tensors": {"rope_freqs": [1.0] * 4}, "dtype": np.float16}, r"is \(4,\) of F16"),
        ({"tensors": {"rope_freqs": [1.0, 1.0, 1.0, -1.0]}}, "a number that is not positive"),
        ({"tensors": {"rope_freqs": [1.0, 1.0, 1.0, float("nan")]}}, "a number that is not positive"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_damage(header, values, said):
    with pytest.raises(ModelCorrupt, match=said):
        rotation_of(header(**values), HEAD, 100)


def test_a_rule_that_is_not_known_is_unsupported(header):
    with pytest.raises(ModelUnsupported, match="rotates positions by 'yarn'"):
        rotation_of(header(rope__scaling__type="yarn"), HEAD, 100)


def test_a_number_for_each_layer_is_one_number_if_the_layers_agree(header):
    assert whole(header(block_count=2, attention__head_count=[4, 4]), "attention.head_count") == 4
    with pytest.raises(ModelUnsupported, match="the layers differ in attention"):
        whole(header(attention__head_count=[4, 2]), "attention.head_count")


def test_the_longest_context_is_longer_than_the_largest_dimension(header):
    read = header(context_length=2**30)
    assert trained_context(read) == 2**30
    with pytest.raises(ModelCorrupt, match="context_length is 1073741824"):
        whole(read, "context_length")
