"""The layout of the library that is installed, and what happens where one that is wrong cannot be told before."""

from __future__ import annotations

import dataclasses

import pytest
import tiny

from phiplug.errors import BackendUnavailable
from phiplug.spi import LoadOptions, ModelFiles, Step
from phiplug_llama_cpp import guard, library, loading, providers
from phiplug_llama_cpp.functions import Functions
from phiplug_llama_cpp.layouts import STRUCTURES, Layout, known_layouts

pytestmark = pytest.mark.usefixtures("llama_cpp")


def swapped(layout, structure, one, other):
    names = [{one: other, other: one}.get(name, name) for name in layout.fields[structure]]
    fields = {name: layout.fields[structure][name] for name in names}
    return Layout(layout.name, {**layout.fields, structure: fields})


@pytest.fixture
def use(monkeypatch):
    """Has the library used by another layout."""

    def use(layout):
        engine = library.library()
        monkeypatch.setattr(engine, "layout", layout)
        monkeypatch.setattr(engine, "api", Functions(engine.api._library, layout))

    return use


def load(path, **options):
    return loading.load_untried(ModelFiles(path.name, path, "gguf"), LoadOptions(ctx_size=256, threads=1, **options))


def test_the_layout_of_the_installed_version_is_recorded_and_fits():
    engine = library.library()
    assert engine.is_recorded
    assert guard.misfit(engine.layout, guard.images(engine.api._library)) is None


def test_a_library_that_no_layout_fits_is_refused_with_both_sizes(monkeypatch):
    engine = library.library()
    shorter = {**engine.layout.fields, STRUCTURES[1]: dict(list(engine.layout.fields[STRUCTURES[1]].items())[:-1])}
    monkeypatch.setattr(library, "known_layouts", lambda: (Layout(engine.layout.name, shorter),))
    size = engine.layout.size(STRUCTURES[1])
    with pytest.raises(BackendUnavailable, match=rf"has {size} bytes in the library and {size - 8} in the layout"):
        library.Library(engine.provider, library.Log())


@pytest.mark.skipif(not guard.BY_ADDRESS, reason="this machine's calls do not show sizes")
def test_a_version_that_is_not_recorded_is_used_by_a_layout_that_fits(smollm2, monkeypatch):
    known = library.library()
    unknown = library.Library(dataclasses.replace(known.provider, version="0.3.999"), known.log)
    assert not unknown.is_recorded
    assert unknown.layout in known_layouts()
    rows = []
    for engine in (known, unknown):
        monkeypatch.setattr(library, "_opened", [engine])
        model = load(smollm2, slots=2)
        rows.append(model.forward([Step(0, (1, 2, 3))]).logits()[0].tobytes())
        model.close()
    known.listen(echo=False)
    assert rows[0] == rows[1]


def test_two_types_of_the_cache_that_are_swapped_show_in_the_log(smollm2, use):
    use(swapped(library.library().layout, "llama_context_params", "type_k", "type_v"))
    with pytest.raises(BackendUnavailable, match=r"asked for a cache of type 30, and said: K \(bf16\).*V \(f16\)"):
        load(smollm2)


def test_a_batch_whose_positions_and_sequences_are_swapped_shows_in_a_pass(tmp_path, use, monkeypatch):
    path = tiny.write_llama(tmp_path / "model.gguf", tiny.byte_tokens(), tiny.Shape())
    use(swapped(library.library().layout, "llama_batch", "pos", "n_seq_id"))
    monkeypatch.setattr(library.library(), "is_recorded", False)
    with pytest.raises(BackendUnavailable, match="takes a batch in a way that phiplug does not know"):
        load(path)


def test_a_second_library_in_one_process_is_refused_with_both_paths(tmp_path, monkeypatch):
    first = library.library().provider
    monkeypatch.setattr(providers, "find", lambda: dataclasses.replace(first, path=tmp_path / "libllama.so"))
    with pytest.raises(BackendUnavailable) as raised:
        library.library()
    assert str(first.path) in str(raised.value)
    assert str(tmp_path / "libllama.so") in str(raised.value)
