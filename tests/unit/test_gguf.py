"""The header of a GGUF: what is read of a sound file, and what is said of every other one."""

from __future__ import annotations

import contextlib
import struct
import weakref
from pathlib import Path

import gguf
import numpy as np
import pytest
import tiny
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from phiplug.errors import ModelCorrupt, ModelError, ModelNotFound, ModelUnsupported
from phiplug.gguf import map_tensor, read_header
from phiplug.gguf.quantization import BLOCKS, FILE_TYPES
from phiplug.gguf.values import MAX_STRING

U32, F32, STRING, ARRAY, U64 = 4, 6, 8, 9, 10


def text(value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(data)) + data


def entry(key: str, type_: int, payload: bytes) -> bytes:
    return text(key) + struct.pack("<I", type_) + payload


def tensor(name: str, shape: tuple[int, ...], type_: int, offset: int) -> bytes:
    dimensions = struct.pack(f"<I{len(shape)}Q", len(shape), *reversed(shape))
    return text(name) + dimensions + struct.pack("<IQ", type_, offset)


ARCHITECTURE = entry("general.architecture", STRING, text("llama"))


def made(*entries: bytes, tensors: tuple[bytes, ...] = (), weights: int = 0, version: int = 3) -> bytes:
    """Return the bytes of a GGUF: an architecture, these entries, these tensors, and so many bytes of weights."""
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors), 1 + len(entries))
    header = head + ARCHITECTURE + b"".join(entries) + b"".join(tensors)
    return header + bytes(-len(header) % 32) + bytes(weights)


@pytest.fixture
def file(tmp_path: Path):
    def write(data: bytes, name: str = "model.gguf") -> Path:
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return write


# A sound file


@pytest.mark.parametrize(
    ("type_", "letter", "value"),
    [
        (0, "B", 200),
        (1, "b", -100),
        (2, "H", 60_000),
        (3, "h", -30_000),
        (4, "I", 2**32 - 1),
        (5, "i", -(2**31)),
        (10, "Q", 2**64 - 1),
        (11, "q", -(2**63)),
        (12, "d", 0.1),
    ],
)
def test_a_number_of_each_type_comes_back_as_it_was(file, type_, letter, value):
    path = file(made(entry("a.number", type_, struct.pack(f"<{letter}", value))))
    assert read_header(path).metadata["a.number"] == value


def test_metadata_comes_back_with_its_types(file):
    path = file(
        made(
            entry("a.number", U32, struct.pack("<I", 7)),
            entry("a.float", F32, struct.pack("<f", 0.5)),
            entry("a.flag", 7, b"\x01"),
            entry("a.text", STRING, text("größe")),
            entry("a.list", ARRAY, struct.pack("<IQ3i", 5, 3, -1, 0, 1)),
            entry("a.flags", ARRAY, struct.pack("<IQ", 7, 2) + b"\x01\x00"),
            entry("a.words", ARRAY, struct.pack("<IQ", STRING, 3) + text("x") + text("") + text("é")),
        )
    )
    metadata = read_header(path).metadata
    assert metadata["a.number"] == 7
    assert metadata["a.float"] == 0.5
    assert metadata["a.flag"] is True
    assert metadata["a.text"] == "größe"
    assert metadata["a.list"] == (-1, 0, 1)
    assert metadata["a.flags"] == (True, False)
    words = metadata["a.words"]
    assert (list(words), words[2], words[:2], len(words), repr(words)) == (
        ["x", "", "é"],
        "é",
        ["x", ""],
        3,
        "<3 strings>",
    )
    assert words.joined("-") == "x--é"


def test_the_tensor_table_agrees_with_the_gguf_package(tmp_path):
    path = tiny.write_llama(tmp_path / "tiny.gguf", tiny.byte_tokens())
    header = read_header(path)
    reader = gguf.GGUFReader(path)
    assert [*header.tensors] == [tensor.name for tensor in reader.tensors]
    for theirs in reader.tensors:
        ours = header.tensors[theirs.name]
        assert ours.shape == tuple(reversed(theirs.shape.tolist()))
        assert (ours.offset, ours.nbytes, ours.type) == (theirs.data_offset, theirs.n_bytes, theirs.tensor_type.name)
        np.testing.assert_array_equal(map_tensor(ours), theirs.data.reshape(-1).view(np.uint8))


def test_the_table_of_types_agrees_with_the_gguf_package():
    theirs = {type_.value: (type_.name, *size) for type_, size in gguf.GGML_QUANT_SIZES.items()}
    assert theirs == {id_: tuple(block) for id_, block in BLOCKS.items()}
    names = {
        type_.value: type_.name.split("_", 1)[1]
        for type_ in gguf.LlamaFileType
        if type_ is not gguf.LlamaFileType.GUESSED
    }
    assert names == FILE_TYPES


def test_a_mapped_tensor_cannot_be_written_to(tmp_path):
    path = tiny.write_llama(tmp_path / "tiny.gguf", tiny.byte_tokens())
    mapped = map_tensor(read_header(path).tensors["output_norm.weight"])
    assert mapped.shape == (64 * 4,)
    with pytest.raises(ValueError, match="read-only"):
        mapped[0] = 1


def test_bits_per_weight_counts_the_scales_too(file):
    path = file(made(tensors=(tensor("q", (2, 32), 3, 0), tensor("f", (32,), 0, 64)), weights=64 + 128))  # Q4_1, F32
    header = read_header(path)
    assert header.parameter_count == 96
    assert header.bits_per_weight == pytest.approx(8 * (2 * 20 + 32 * 4) / 96)


def test_a_file_without_tensors_has_no_bits_per_weight(file):
    header = read_header(file(made()))
    assert (header.bits_per_weight, header.parameter_count, header.quantization) == (0.0, 0, "none")


def test_quantization_is_the_files_own_name_or_that_of_most_weights(file):
    tensors = (tensor("q", (64, 32), 2, 0), tensor("f", (32,), 0, 64 * 18))
    named = made(entry("general.file_type", U32, struct.pack("<I", 15)), tensors=tensors, weights=64 * 18 + 128)
    assert read_header(file(named)).quantization == "Q4_K_M"
    assert read_header(file(made(tensors=tensors, weights=64 * 18 + 128))).quantization == "Q4_0"


def test_an_unknown_type_takes_the_room_up_to_the_next_tensor(file):
    path = file(made(tensors=(tensor("new", (4, 8), 99, 0), tensor("f", (32,), 0, 96)), weights=96 + 128))
    new = read_header(path).tensors["new"]
    assert (new.type, new.nbytes) == ("type 99", 96)


def test_the_real_model_reads_as_it_is(smollm2):
    header = read_header(smollm2)
    assert (header.architecture, header.quantization, header.parameter_count) == ("llama", "Q4_1", 134_515_008)
    assert header.bits_per_weight == pytest.approx(5.7437, abs=1e-4)
    assert header.hyperparameter("context_length") == 8192
    assert header.tensors["token_embd.weight"].shape == (49152, 576)
    last = max(header.tensors.values(), key=lambda tensor: tensor.offset)
    assert last.offset + last.nbytes == smollm2.stat().st_size


def test_readers_of_one_file_share_its_header_and_nobody_keeps_it_for_them(file):
    path = file(made(entry("a.words", ARRAY, struct.pack("<IQ", STRING, 1) + text("x"))))
    held = read_header(path)
    assert read_header(path) is held
    gone = weakref.ref(held)
    del held
    assert gone() is None


def test_a_file_that_has_changed_is_read_again(file):
    path = file(made())
    held = read_header(path)
    path.write_bytes(made(entry("a", U32, struct.pack("<I", 7))))
    assert (read_header(path).metadata["a"], "a" in held.metadata) == (7, False)


# A split file


def parts(file, count: int = 2, *, total: int = 2, number: int = 0) -> list[Path]:
    def part(index: int) -> bytes:
        keys = [
            entry("split.no", U32, struct.pack("<I", index + number)),
            entry("split.count", U32, struct.pack("<I", count)),
            entry("split.tensors.count", U32, struct.pack("<I", total)),
        ]
        return made(*keys, tensors=(tensor(f"t{index}", (8,), 0, 0),), weights=32)

    return [file(part(at), f"m-{at + 1:05}-of-{count:05}.gguf") for at in range(count)]


def test_a_split_model_is_read_as_one(file):
    first, second = parts(file)
    header = read_header(first)
    assert {name: tensor.path for name, tensor in header.tensors.items()} == {"t0": first, "t1": second}


def test_a_missing_part_is_named(file):
    first, second = parts(file)
    second.unlink()
    with pytest.raises(ModelNotFound, match=r"m-00002-of-00002\.gguf is missing"):
        read_header(first)


def test_a_second_part_points_to_the_first(file):
    with pytest.raises(ModelUnsupported, match=r"not the first part.*give m-00001-of-00002\.gguf"):
        read_header(parts(file, number=1)[0])


def test_a_part_under_another_name_is_refused(file):
    first = parts(file)[0]
    with pytest.raises(ModelCorrupt, match="its name does not end in"):
        read_header(first.rename(first.with_name("renamed.gguf")))


def test_parts_that_hold_too_few_tensors_are_refused(file):
    with pytest.raises(ModelCorrupt, match="hold 2 tensors instead of 3"):
        read_header(parts(file, total=3)[0])


# What is no GGUF


@pytest.mark.parametrize(
    ("start", "what"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 9\n", "Git LFS pointer.*git lfs pull"),
        (b"<!DOCTYPE html><html><body>Not found", "a web page"),
        (b"\n <html lang=en>", "a web page"),
        (b"PK\x03\x04\x14\x00", "a zip archive or a PyTorch checkpoint"),
        (b"\x80\x02}q\x00", "a Python pickle"),
        (struct.pack("<Q", 90) + b'{"__metadata__":{}', "a safetensors file"),
        (b'{"model_type": "llama"}', "a JSON file"),
        (b"\x1f\x8b\x08\x00", "a compressed file"),
        (b"tjgg\x03\x00\x00\x00", "older than GGUF"),
        (bytes(64), "never finished"),
        (b"GGU", "cut off within its first 8 bytes"),
        (b"GGUF\x03\x00", "cut off within its first 8 bytes"),
        (b"RIFF....WAVE", "no GGUF: it begins with b'RIFF'"),
    ],
)
def test_the_message_says_what_the_file_is_instead(file, start, what):
    with pytest.raises(ModelCorrupt, match=what):
        read_header(file(start))


def test_a_big_endian_gguf_is_unsupported(file):
    with pytest.raises(ModelUnsupported, match="big-endian"):
        read_header(file(b"GGUF" + struct.pack(">IQQ", 3, 0, 0)))


@pytest.mark.parametrize(
    ("version", "hint"),
    [(0, "convert the model again"), (1, "convert the model again"), (4, "versions 2 and 3 are read")],
)
def test_other_versions_are_unsupported(file, version, hint):
    with pytest.raises(ModelUnsupported, match=rf"version {version}.*{hint}"):
        read_header(file(made(version=version)))


def test_a_file_that_is_not_there_is_not_found(tmp_path):
    with pytest.raises(ModelNotFound, match="No such file"):
        read_header(tmp_path / "none.gguf")


def test_a_folder_is_not_read_as_a_file(tmp_path):
    with pytest.raises(ModelNotFound, match="cannot be read"):
        read_header(tmp_path)


def test_a_gguf_that_is_no_model_is_unsupported(file):
    with pytest.raises(ModelUnsupported, match="names no architecture"):
        read_header(file(b"GGUF" + struct.pack("<IQQ", 3, 0, 0)))


# What is damaged


def test_missing_weights_are_counted(file):
    whole = made(tensors=(tensor("a", (32, 32), 0, 0),), weights=4096)
    with pytest.raises(ModelCorrupt, match=rf"has {len(whole) - 96:,} of {len(whole):,} bytes.*download it again"):
        read_header(file(whole[:-96]))


def test_a_header_that_ends_too_soon_says_within_what(file):
    data = made(entry("a.words", ARRAY, struct.pack("<IQ", STRING, 1000) + text("x") * 10))
    with pytest.raises(ModelCorrupt, match=r"cut off: it has \d+ bytes and ends within a\.words"):
        read_header(file(data.rstrip(b"\x00")))


HUGE = struct.pack("<Q", 2**62)


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"GGUF" + struct.pack("<IQ", 3, 2**62) + bytes(64), "the number of tensors is 4,611"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 2**62) + bytes(64), "the number of metadata keys is 4,611"),
        (made(entry("a", STRING, HUGE)), "the length of a is 4,611"),
        (made(entry("a", ARRAY, struct.pack("<I", U64) + HUGE)), "the number of elements of a is 4,611"),
        (made(entry("a", ARRAY, struct.pack("<IQ", STRING, 2) + HUGE)), "a string of a is 4,611"),
        (made(entry("a", ARRAY, struct.pack("<IQ", STRING, 2) + text("x") + HUGE)), "a string of a is 4,611"),
        (made(entry("a", ARRAY, struct.pack("<IQ", ARRAY, 0))), "an array of the unknown type 9"),
        (made(entry("a", 13, b"")), "of the unknown type 13"),
        (made(entry("a", STRING, text(b"\xff"))), "a is not UTF-8"),
        (made(entry("a", 7, b"\1"), entry("a", 7, b"\1")), "the key 'a' twice"),
        (made(entry("general.alignment", U32, bytes(4))), "general.alignment is 0"),
        (made(entry("general.alignment", U32, struct.pack("<I", 48))), "no power of two from 8 on"),
        (made(entry("general.alignment", U32, struct.pack("<I", 4))), "general.alignment is 4"),
        (made(entry("general.alignment", STRING, text("32"))), "general.alignment is '32', which is no unsigned"),
        (made(entry("general.alignment", 5, struct.pack("<i", 32))), "general.alignment is 32, which is no unsigned"),
        (made(entry("general.alignment", 7, b"\1")), "general.alignment is True, which is no unsigned"),
        (made(tensors=(tensor("t", (8,), 0, 0),) * 2, weights=64), "two tensors 't'"),
        (made(tensors=(tensor("a", (16,), 0, 0), tensor("b", (8,), 0, 32)), weights=64), "a overlaps the tensor"),
        (made(tensors=(tensor("t", (8,), 0, 8),), weights=64), "begins at no multiple of 32"),
        (made(tensors=(tensor("t", (2, 33), 2, 0),), weights=64), r"t cannot be \[33, 2\] of Q4_0"),
        (made(tensors=(tensor("t", (1, 1, 1, 1, 8), 0, 0),), weights=64), "the number of dimensions of t is 5"),
        (made(tensors=(tensor("t", (2**40, 2**40), 0, 0),)), "t cannot be"),
        (made(tensors=(tensor("t", (2**62,), 0, 0),)), "a dimension of t is 4,611"),
        (made(tensors=(tensor("t", (8,), 0, 2**62),)), "the offset of t is 4,611"),
        (made(entry("split.count", STRING, text("two"))), "split.count is 'two'"),
        (made(entry("split.count", U32, struct.pack("<I", 2**31))), "split.count is 2147483648"),
    ],
)  # fmt: skip
def test_damage_is_named(file, data, what):
    with pytest.raises(ModelCorrupt, match=what):
        read_header(file(data))


@pytest.mark.parametrize(
    ("name", "type_", "payload"),
    [
        ("block_count", U32, struct.pack("<I", 0)),
        ("block_count", U32, struct.pack("<I", 513)),
        ("block_count", STRING, text("30")),
        ("attention.layer_norm_rms_epsilon", F32, struct.pack("<f", -1e-5)),
        ("attention.layer_norm_rms_epsilon", F32, struct.pack("<f", float("nan"))),
        ("rope.freq_base", F32, struct.pack("<f", float("nan"))),
        ("rope.freq_base", F32, struct.pack("<f", 0.0)),
        ("context_length", U32, struct.pack("<I", 0)),
        ("embedding_length", U32, struct.pack("<I", 0)),
    ],
)
def test_a_hyperparameter_that_would_kill_the_engine_is_refused(file, name, type_, payload):
    with pytest.raises(ModelCorrupt, match=rf"llama\.{name} is"):
        read_header(file(made(entry(f"llama.{name}", type_, payload))))


def test_the_longest_string_that_is_allowed_is_read(file):
    data = made(
        entry("a", STRING, text("x" * MAX_STRING)),
        entry("b", ARRAY, struct.pack("<IQ", STRING, 1) + text("y" * MAX_STRING)),
    )
    metadata = read_header(file(data)).metadata
    assert (len(metadata["a"]), len(metadata["b"][0])) == (MAX_STRING, MAX_STRING)


def test_a_token_that_is_not_utf8_is_named_when_it_is_looked_at(file):
    words = read_header(file(made(entry("a.words", ARRAY, struct.pack("<IQ", STRING, 1) + text(b"\xc3"))))).metadata[
        "a.words"
    ]
    with pytest.raises(ModelCorrupt, match=r"a\.words is UTF-8"):
        words[0]
    with pytest.raises(ModelCorrupt, match=r"a\.words is UTF-8"):
        words.joined(" ")


def test_a_file_that_has_become_shorter_is_said_to_be(file):
    path = file(made(tensors=(tensor("t", (1024,), 0, 0),), weights=4096))
    info = read_header(path).tensors["t"]
    path.write_bytes(path.read_bytes()[:64])
    with pytest.raises(ModelCorrupt, match="t goes beyond its end"):
        map_tensor(info)
    path.unlink()
    with pytest.raises(ModelNotFound, match="No such file"):
        map_tensor(info)


SOUND = made(
    entry("a.words", ARRAY, struct.pack("<IQ", STRING, 3) + text("x") + text("yy") + text("zzz")),
    entry("a.numbers", ARRAY, struct.pack("<IQ4f", F32, 4, 1, 2, 3, 4)),
    entry("general.alignment", U32, struct.pack("<I", 64)),
    tensors=(tensor("a", (4, 32), 3, 0), tensor("b", (32,), 0, 128)),
    weights=320,
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    changes=st.lists(st.tuples(st.integers(0, len(SOUND) - 1), st.integers(0, 255)), max_size=6),
    cut=st.integers(0, len(SOUND)),
)
def test_whatever_is_broken_ends_in_a_typed_error_or_a_sound_table(file, changes, cut):
    data = bytearray(SOUND)
    for at, byte in changes:
        data[at] = byte
    path = file(bytes(data[: len(data) - cut]))
    tensors = {}
    with contextlib.suppress(ModelError):  # any other exception fails the test
        tensors = read_header(path).tensors
    for info in tensors.values():
        assert map_tensor(info).nbytes == info.nbytes
