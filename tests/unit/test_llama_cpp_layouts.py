"""Layouts that differ from a recorded one: the guard notices, or what it cannot notice does no harm."""

import ctypes

import llama_layouts
import pytest

from phiplug.errors import BackendUnavailable
from phiplug_llama_cpp import guard, library
from phiplug_llama_cpp.guard import Image
from phiplug_llama_cpp.layouts import STRUCTURES, Layout, known_layouts
from phiplug_llama_cpp.providers import Provider

MODEL, CONTEXT, BATCH = STRUCTURES
OURS = known_layouts()[0]


def image_of(layout, name):
    """Return what a library with this layout returns; it leaves the padding alone, as GCC's code does."""
    used = {at for place in layout.places(name).values() for at in place}
    values = layout.default_bytes(name).ljust(guard.ROOM)
    told = tuple(at in used for at in range(guard.ROOM))
    return Image(bytes(value if at in used else guard.FILLS[0] for at, value in enumerate(values)), told)


def images_of(layout):
    return {name: image_of(layout, name) for name in STRUCTURES}


def inserted(field, *new):
    """Put a field before another, or last where there is none of that name."""

    def change(fields):
        at = list(fields).index(field) if field in fields else len(fields)
        listed = list(fields.items())
        return dict([*listed[:at], (new[0], new[1:]), *listed[at:]])

    return change


def dropped(field):
    return lambda fields: {name: kind for name, kind in fields.items() if name != field}


def retyped(field, *kind):
    return lambda fields: {name: kind if name == field else before for name, before in fields.items()}


def swapped(one, other):
    def change(fields):
        names = [{one: other, other: one}.get(name, name) for name in fields]
        return {name: fields[name] for name in names}

    return change


CAUGHT = {
    "a size appended": (CONTEXT, inserted("", "new", "size", 0)),
    "a pointer appended": (CONTEXT, inserted("", "new", "pointer", None)),
    "a bool appended, in padding, true": (MODEL, inserted("", "new", "bool", True)),
    "an integer appended": (MODEL, inserted("", "new", "i32", 0)),
    "a bool in the padding before samplers, true": (CONTEXT, inserted("samplers", "new", "bool", True)),
    "an integer in the padding before tensor_split, 1": (MODEL, inserted("tensor_split", "new", "i32", 1)),
    "a pointer put first": (MODEL, inserted("devices", "new", "pointer", None)),
    "the last pointer dropped": (CONTEXT, dropped("ctx_other")),
    "a pointer dropped": (MODEL, dropped("kv_overrides")),
    "an integer dropped, and made up for by padding": (CONTEXT, dropped("n_rs_seq")),
    "a bool dropped": (CONTEXT, dropped("embeddings")),
    "a bool turned into an enum": (CONTEXT, retyped("no_perf", "enum", 1)),
    "the last bool turned into an enum": (MODEL, retyped("load_mtp", "enum", 0)),
    "an enum turned into a bool": (CONTEXT, retyped("flash_attn_type", "bool", True)),
    "an integer of 64 bits": (CONTEXT, retyped("n_ctx", "size", 512)),
    "a number of layers of 64 bits": (MODEL, retyped("n_gpu_layers", "size", 0)),
    "another default": (CONTEXT, retyped("n_batch", "u32", 4096)),
    "a bool with another default": (MODEL, retyped("use_extra_bufts", "bool", False)),
    "two neighbours of one type swapped, told by their defaults": (CONTEXT, swapped("n_batch", "n_ubatch")),
    "two bools swapped, told by their defaults": (MODEL, swapped("check_tensors", "use_extra_bufts")),
    "the tokens of a batch behind its embeddings": (BATCH, swapped("token", "embd")),
    "a batch without embeddings": (BATCH, dropped("embd")),
    "a batch that counts in 64 bits": (BATCH, retyped("n_tokens", "size", 7 + (1 << 32))),
}

HARMLESS = {
    "a bool in the padding before samplers, false": (
        (CONTEXT, inserted("samplers", "new", "bool", False)),
        "a compiler may write zeros there; the structure goes back as it came, so the field keeps its default",
    ),
    "a bool appended, in padding, false": ((MODEL, inserted("", "new", "bool", False)), "the same"),
    "two neighbours of one type and default swapped": (
        (CONTEXT, swapped("no_perf", "op_offload")),
        "what has the wanted value by default is not set",
    ),
    "the two numbers of threads swapped": (
        (CONTEXT, swapped("n_threads", "n_threads_batch")),
        "both are set to the same number",
    ),
    "the two types of the cache swapped": (
        (CONTEXT, swapped("type_k", "type_v")),
        "llama.cpp logs both, which is read: tests/conformance/test_llama_cpp_layouts.py",
    ),
    "a number turned into another of its size, both 0": (
        (CONTEXT, retyped("yarn_orig_ctx", "f32", 0.0)),
        "it is not set",
    ),
    "the callback of progress and its neighbour swapped": (
        (MODEL, swapped("tensor_split", "progress_callback")),
        "no pointer of llama_model_params is set where the layout was not recorded for the very version",
    ),
    "the positions and the sequences of a batch swapped": (
        (BATCH, swapped("pos", "n_seq_id")),
        "a first pass is read back where the layout was not recorded: tests/conformance/test_llama_cpp_layouts.py",
    ),
}


def falsified(structure, change):
    return Layout("falsified", {**OURS.fields, structure: change(OURS.fields[structure])})


@pytest.mark.parametrize("layout", known_layouts(), ids=lambda layout: layout.name)
def test_a_library_fits_its_own_layout(layout):
    assert guard.misfit(layout, images_of(layout)) is None


@pytest.mark.parametrize("case", CAUGHT)
def test_a_layout_that_could_do_harm_is_noticed(case):
    theirs = falsified(*CAUGHT[case])
    assert guard.misfit(OURS, images_of(theirs)) is not None
    assert guard.misfit(theirs, images_of(OURS)) is not None


@pytest.mark.parametrize("case", HARMLESS)
def test_a_layout_that_nothing_shows_is_listed_with_why_it_does_no_harm(case):
    change, why = HARMLESS[case]
    assert why
    assert guard.misfit(OURS, images_of(falsified(*change))) is None


def test_a_longer_structure_is_refused_with_both_sizes():
    longer = falsified(*CAUGHT["a size appended"])
    assert guard.misfit(OURS, images_of(longer)) == (
        f"llama_context_params has {OURS.size(CONTEXT) + 8} bytes in the library and {OURS.size(CONTEXT)} "
        f"in the layout of {OURS.name}"
    )


def test_the_sizes_are_measured_on_what_a_c_function_writes():
    written = OURS.default_bytes(CONTEXT)
    prototype = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int32)

    class Fake:
        llama_model_default_params = llama_context_default_params = llama_batch_get_one = prototype(
            lambda into, *_: ctypes.memmove(into, written, len(written))
        )

    if not guard.BY_ADDRESS:
        pytest.skip("this machine's calls do not show sizes")
    assert guard.images(Fake)[CONTEXT].size == OURS.size(CONTEXT)


def engine(*, recorded):
    unopened = object.__new__(library.Library)
    unopened.provider, unopened.layout = Provider("somebody's", "1.0", None), OURS
    unopened.is_recorded = recorded
    return unopened


def test_a_field_that_nothing_tells_apart_is_not_set_on_a_library_of_unknown_version():
    parameters = OURS.structure(MODEL).from_buffer_copy(OURS.default_bytes(MODEL))
    with pytest.raises(BackendUnavailable, match=r"somebody's 1\.0 .* llama_model_params\.devices"):
        engine(recorded=False).set(parameters, devices=8)
    engine(recorded=True).set(parameters, devices=8)
    assert parameters.devices == 8
    engine(recorded=False).set(parameters, n_gpu_layers=0, check_tensors=False)
    assert parameters.n_gpu_layers == 0


def test_a_field_that_a_structure_does_not_have_is_refused():
    parameters = OURS.structure(CONTEXT)()
    with pytest.raises(BackendUnavailable, match=r"has no llama_context_params\.n_seqs"):
        engine(recorded=True).set(parameters, n_seqs=1)


HEADER = """
    // a structure
    struct llama_model_params {
        ggml_backend_dev_t * devices; // NULL: all
        const struct llama_model_tensor_buft_override * tensor_buft_overrides;
        int32_t n_gpu_layers; /* how many;
                                 all: -1 */
        enum llama_split_mode split_mode;
        const float * tensor_split;
        llama_progress_callback progress_callback;
        bool vocab_only;
        size_t   n_samplers;
        llama_seq_id ** seq_id;
    };
"""


def test_the_fields_of_a_structure_are_read_from_llama_h():
    assert llama_layouts.fields_of(HEADER, MODEL) == {
        "devices": "pointer",
        "tensor_buft_overrides": "pointer",
        "n_gpu_layers": "i32",
        "split_mode": "enum",
        "tensor_split": "pointer",
        "progress_callback": "pointer",
        "vocab_only": "bool",
        "n_samplers": "size",
        "seq_id": "pointer",
    }
