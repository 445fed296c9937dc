"""Which library of llama.cpp is found, and what is said where none is."""

from pathlib import Path

import pytest

import phiplug_llama_cpp
from phiplug_llama_cpp import providers
from phiplug_llama_cpp.providers import Absent, Provider


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder of packages that has nothing yet; nothing else is installed."""
    versions = {}
    monkeypatch.delenv(providers.VARIABLE, raising=False)
    monkeypatch.setattr(providers, "_SYSTEM_NAMES", ())
    monkeypatch.setattr(providers, "_has_openmp", lambda: True)
    monkeypatch.setattr(providers, "version", versions.__getitem__)
    monkeypatch.setattr(providers.importlib.util, "find_spec", lambda name: spec_of(tmp_path / name))

    def install(distribution, version, library):
        versions[distribution] = version
        (tmp_path / library).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / library).write_bytes(b"")
        return tmp_path / library

    return install


class Spec:
    def __init__(self, folder):
        self.submodule_search_locations = [str(folder)]


def spec_of(folder):
    return Spec(folder) if folder.is_dir() else None


LIBRARIES = {
    "llama-cpp-python": ("0.3.36", "llama_cpp/lib/libllama.so"),
    "xllamacpp": ("2026.10.11549", "xllamacpp/xllamacpp.abi3.so"),
    "inferna-vulkan": ("0.7.0", "inferna_vulkan.libs/libllama-af9aab63.so.0.7.0"),
}


def test_llama_cpp_python_comes_before_wheels_that_carry_a_library(site, tmp_path):
    (tmp_path / "inferna").mkdir()
    installed = []
    for distribution, (version, library) in reversed(LIBRARIES.items()):
        installed.append(Provider(distribution, version, site(distribution, version, library)))
        assert providers.find() == installed[-1]


def test_nothing_installed_is_said_with_the_command(site):
    assert providers.find() == Absent("no library of llama.cpp is installed")
    probe = phiplug_llama_cpp.probe()
    assert (probe.available, probe.reason) == (False, "no library of llama.cpp is installed")
    assert "pip install" in probe.install


def test_a_version_that_is_too_old_is_not_available(site):
    site("llama-cpp-python", "0.3.9", "llama_cpp/lib/libllama.so")
    probe = phiplug_llama_cpp.probe()
    assert not probe.available
    assert probe.reason == "llama-cpp-python 0.3.9 is older than 0.3.36"
    assert "phiplug[llama-cpp]" in probe.install
    wheel = site("xllamacpp", *LIBRARIES["xllamacpp"])
    assert providers.find().path == wheel


def test_a_package_without_a_library_is_passed_over(site):
    site("xllamacpp", "2026.10.11549", "xllamacpp/__init__.py")
    assert isinstance(providers.find(), Absent)


@pytest.mark.parametrize(("tool", "command"), [("apt-get", "apt-get install libgomp1"), ("dnf", "dnf install libgomp")])
def test_a_missing_openmp_is_a_reason_with_the_command_that_brings_it(site, monkeypatch, tool, command):
    site("xllamacpp", *LIBRARIES["xllamacpp"])
    wheel = providers._DISTRIBUTIONS[1]._replace(needs_openmp=True)
    monkeypatch.setattr(providers, "_DISTRIBUTIONS", (wheel,))
    monkeypatch.setattr(providers, "_has_openmp", lambda: False)
    monkeypatch.setattr(providers.shutil, "which", lambda name: name if name == tool else None)
    probe = phiplug_llama_cpp.probe()
    assert probe.reason == "libgomp.so.1, which xllamacpp needs, is not installed"
    assert probe.install == command


def test_the_environment_names_a_library(site, tmp_path, monkeypatch):
    site("llama-cpp-python", *LIBRARIES["llama-cpp-python"])
    own, wheel = tmp_path / "libllama.so", site("xllamacpp", *LIBRARIES["xllamacpp"])
    own.write_bytes(b"")
    monkeypatch.setenv(providers.VARIABLE, str(own))
    assert providers.find() == Provider("libllama", str(own), own)
    monkeypatch.setenv(providers.VARIABLE, str(wheel))
    assert providers.find().name == "xllamacpp 2026.10.11549"
    monkeypatch.setenv(providers.VARIABLE, str(tmp_path / "nowhere.so"))
    assert providers.find().reason == f"PHIPLUG_LIBLLAMA names {tmp_path / 'nowhere.so'}, which is no file"


def test_a_library_of_the_system_comes_last(site, tmp_path, monkeypatch):
    monkeypatch.setattr(providers.sys, "prefix", str(tmp_path))
    monkeypatch.setattr(providers, "_SYSTEM_NAMES", ("libphiplug-test.so",))
    (tmp_path / "lib").mkdir()
    path = tmp_path / "lib" / "libphiplug-test.so"
    path.write_bytes(b"")
    assert providers.find() == Provider("libllama", str(path), path)
    site("xllamacpp", *LIBRARIES["xllamacpp"])
    assert providers.find().distribution == "xllamacpp"


def test_a_build_is_known_by_its_libraries(site, tmp_path):
    for name in ("libggml-base.so", "libggml-cpu.so", "libggml-cuda.so"):
        path = site("llama-cpp-python", "0.3.36", f"llama_cpp/lib/{name}")
    site("llama-cpp-python", *LIBRARIES["llama-cpp-python"])
    assert path.parent == Path(tmp_path, "llama_cpp", "lib")
    assert phiplug_llama_cpp.probe().devices == ("cuda", "cpu")


def test_a_prebuilt_library_is_what_is_offered_where_there_is_one(monkeypatch):
    monkeypatch.setattr(phiplug_llama_cpp.shutil, "which", lambda _: None)
    for system, machine, extra in (
        ("linux", "x86_64", "llama"), ("linux", "riscv64", "llama-cpp"), ("darwin", "arm64", "llama"),
    ):  # fmt: skip
        monkeypatch.setattr(phiplug_llama_cpp.sys, "platform", system)
        monkeypatch.setattr(phiplug_llama_cpp.platform, "machine", lambda machine=machine: machine)
        assert phiplug_llama_cpp.install_command() == f"pip install 'phiplug[{extra}]'"
    assert "GGML_CUDA=on" in phiplug_llama_cpp.install_command("cuda")
