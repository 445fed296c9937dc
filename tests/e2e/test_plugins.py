"""Plugins as a user meets them: each hook with a real use, and fifteen kinds of broken ones that harm nobody."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from distributions import SHELF, backend, install

BROKEN = {
    "cannot be imported": ("raise RuntimeError('no')", "PluginLoadError"),
    "is no Python": ("def (:", "PluginLoadError"),
    "exits at import": ("import sys; sys.exit(3)", "PluginLoadError"),
    "misspells a hook": (
        "from phiplug.spi import hookimpl\n@hookimpl\ndef phiplug_register_backend(): pass",
        "PluginLoadError",
    ),
    "has the wrong signature": (backend("bad", argument="wrong"), "PluginLoadError"),
    "has another name": (backend("worse"), "ContractMismatch"),
    "has another version of the contract": (backend("bad", api=99), "ContractMismatch"),
    "raises in probe": (backend("bad", probe="raise OSError('in probe')"), "BackendFailed"),
    "raises in accepts": (backend("bad", accepts="raise OSError('in accepts')"), "BackendFailed"),
    "raises in load": (backend("bad", load="raise OSError('in load')"), "BackendFailed"),
    "raises at the first token": (backend("bad", forward="raise OSError('in forward')"), "BackendFailed"),
    "raises at the third token": (
        backend("bad", forward="if self.passes == 3: raise OSError('in forward')"),
        "BackendFailed",
    ),
    "returns the wrong width": (backend("bad", logits="rows = rows[:, :-1]"), "ContractMismatch"),
    "returns NaN": (backend("bad", logits="rows[0, 3] = np.nan"), "NonFiniteLogits"),
    "raises in close": (backend("bad", close="raise OSError('in close')"), "BackendFailed"),
}


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder that counts as installed."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", str(folder))
    yield folder
    for name in ("phiplug_shelf", "phiplug_bad", "phiplug_twin"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize(("body", "error"), BROKEN.values(), ids=BROKEN)
def test_a_broken_backend_is_a_typed_error_that_names_it_and_leaves_the_others_working(phiplug, site, body, error):
    install(site, "phiplug-bad", body, {"phiplug.backends": {"bad": "phiplug_bad"}})
    ran = phiplug("run", "hello", "-b", "bad", "-n", "4")
    assert ran.code == (2 if error == "InvalidParameter" else 1)
    assert ran.err.rstrip().endswith(f"[{error}]")
    assert "bad" in ran.err
    assert phiplug("run", "hello", "-b", "toy", "-n", "4").code == 0
    assert phiplug("run", "hello", "-m", "toy", "-n", "4").code == 0


def test_what_an_engine_prints_is_no_part_of_the_json(phiplug, site):
    body = backend("bad", forward="print('noise')")
    install(site, "phiplug-bad", body, {"phiplug.backends": {"bad": "phiplug_bad"}})
    ran = phiplug("run", "hello", "-b", "bad", "-n", "2", "--json")
    assert len(json.loads(ran.out)["tokens"]) == 2
    assert "noise" in ran.err


def test_two_plugins_of_one_name_are_an_error_for_that_name_alone(phiplug, site):
    for name in ("phiplug-bad", "phiplug-twin"):
        install(site, name, backend("bad"), {"phiplug.backends": {"bad": name.replace("-", "_")}})
    ran = phiplug("run", "hello", "-b", "bad")
    assert ran.code == 2
    assert "phiplug-bad and phiplug-twin both bring a backend 'bad'" in ran.err
    assert phiplug("run", "hello", "-m", "toy", "-n", "4").code == 0


def test_backends_lists_a_broken_plugin_with_its_reason(phiplug, site):
    install(site, "phiplug-bad", "raise RuntimeError('not today')", {"phiplug.backends": {"bad": "phiplug_bad"}})
    reports = {report["name"]: report for report in json.loads(phiplug("backends", "--json").out)}
    assert not reports["bad"]["available"]
    assert "not today" in reports["bad"]["reason"]
    assert reports["toy"]["available"]


def test_a_probe_that_hangs_or_dies_is_given_up(site, monkeypatch):
    from phiplug.plugins import Plugins
    from phiplug.plugins.probe import report_backends

    install(
        site,
        "phiplug-bad",
        backend("bad", probe="import time; time.sleep(60)"),
        {"phiplug.backends": {"bad": "phiplug_bad"}},
    )
    install(
        site,
        "phiplug-twin",
        backend("twin", probe="import os; os.abort()"),
        {"phiplug.backends": {"twin": "phiplug_twin"}},
    )
    monkeypatch.setenv("PHIPLUG_DISABLE_PLUGINS", "llama-cpp,mlx,numpy,toy")
    reports = {report.name: report for report in report_backends(Plugins.installed(), timeout_s=5.0)}
    assert reports["bad"].reason == "its probe gave no answer within 5 s"
    assert reports["twin"].reason.startswith("its probe was killed by signal 6")


def test_help_imports_no_plugin_however_many_there_are(site):
    for number in range(10):
        install(
            site,
            f"phiplug-heavy{number}",
            "import numpy",
            {
                group: {f"heavy{number}": f"phiplug_heavy{number}"}
                for group in ("phiplug", "phiplug.backends", "phiplug.commands")
            },
        )
    script = (
        "import sys; sys.argv = ['phiplug', '--help']\n"
        "from phiplug.cli import main\n"
        "try: main()\n"
        "except SystemExit: print([name for name in sys.modules if 'numpy' in name or 'heavy' in name])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "heavy7" in done.stdout
    assert done.stdout.endswith("[]\n")


@pytest.fixture
def shelf(site, tmp_path, monkeypatch):
    entries = {"phiplug": {"shelf": "phiplug_shelf"}, "phiplug.commands": {"shelf": "phiplug_shelf"}}
    install(site, "phiplug-shelf", SHELF, entries)
    folder = tmp_path / "shelf"
    folder.mkdir()
    monkeypatch.setenv("SHELF", str(folder))
    return folder


def test_a_plugin_finds_a_model_and_replaces_its_template(phiplug, shelf, smollm2, llama_cpp):
    (shelf / "small.gguf").symlink_to(smollm2)
    options = ("-b", "llama-cpp", "--threads", "1", "-n", "2", "--json")
    found = json.loads(phiplug("run", "hello", "-m", "shelf:small", *options).out)
    raw = json.loads(phiplug("run", "SHELF hello", "-m", "smollm2", "--raw", *options).out)
    assert found["model"]["reference"] == "shelf:small"
    assert found["prompt_ids"] == raw["prompt_ids"]


def test_a_plugin_brings_an_alias(phiplug, shelf, smollm2, llama_cpp):
    ran = phiplug("run", "hello", "-m", "house-model", "-b", "llama-cpp", "--threads", "1", "-n", "2", "--json")
    assert json.loads(ran.out)["model"]["path"] == str(smollm2)


def test_a_plugins_command_that_raises_is_one_line(phiplug, site):
    body = (
        "from phiplug.spi import hookimpl\n"
        "@hookimpl\n"
        "def phiplug_add_commands(app):\n"
        "    @app.command()\n"
        "    def bad(): raise KeyError('shelf')\n"
    )
    install(site, "phiplug-bad", body, {"phiplug.commands": {"bad": "phiplug_bad"}})
    ran = phiplug("bad")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == "error: the plugin command 'bad' failed: KeyError: 'shelf' [PluginError]\n"


def test_a_plugin_brings_a_command(phiplug, shelf):
    (shelf / "b.gguf").touch()
    (shelf / "a.gguf").touch()
    assert "shelf" in phiplug("--help").out
    assert "From phiplug-shelf." in phiplug("--help").out
    assert phiplug("shelf").out == "a\nb\n"


def test_a_plugin_observes_finished_requests(phiplug, shelf):
    phiplug("run", "hello", "-b", "toy", "-n", "3", "--seed", "5")
    assert json.loads((shelf / "log.jsonl").read_text()) == {"seed": 5, "tokens": 3}


def test_an_observer_that_fails_is_logged_and_the_answer_stands(phiplug, shelf, monkeypatch, caplog):
    monkeypatch.setenv("SHELF", str(shelf / "not" / "there"))
    ran = phiplug("run", "hello", "-b", "toy", "-n", "3")
    assert ran.code == 0
    assert ran.out.strip()
    assert "the plugin shelf (phiplug-shelf) failed in phiplug_request_finished" in caplog.text


def test_plugins_are_listed_with_version_and_hooks(phiplug, shelf):
    listed = {
        (plugin["plugin"], plugin["group"]): plugin for plugin in json.loads(phiplug("plugins", "list", "--json").out)
    }
    plugin = listed["shelf", "phiplug"]
    assert (plugin["distribution"], plugin["version"], plugin["status"]) == ("phiplug-shelf", "1.0", "loaded")
    assert plugin["hooks"] == [
        "phiplug_add_commands",
        "phiplug_chat_template",
        "phiplug_find_model",
        "phiplug_hardware_info",
        "phiplug_model_aliases",
        "phiplug_request_finished",
    ]


def test_the_list_shows_what_is_wrong_with_a_plugin(phiplug, site):
    install(site, "phiplug-bad", "import nothing_of_that_name", {"phiplug": {"bad": "phiplug_bad"}})
    out = " ".join(phiplug("plugins", "list").out.split())
    assert "nothing_of_that_name" in out


def test_a_disabled_plugin_is_left_out(phiplug, shelf, monkeypatch):
    monkeypatch.setenv("PHIPLUG_DISABLE_PLUGINS", "phiplug-shelf")
    assert phiplug("shelf").code == 2
    assert phiplug("run", "hello", "-m", "shelf:small").code == 1


@pytest.mark.parametrize(
    ("name", "said"),
    [("pip", "no plugin is called 'pip' (see phiplug plugins list)"), ("toy", "'toy' is part of phiplug itself")],
)
def test_only_a_plugin_is_uninstalled(phiplug, name, said):
    ran = phiplug("plugins", "uninstall", name)
    assert ran.code == 1
    assert said in ran.err


def test_a_plugin_is_uninstalled_with_its_distribution(phiplug, shelf, monkeypatch):
    asked = []
    monkeypatch.setattr("phiplug.cli.plugins._pip", lambda *arguments: asked.append(arguments))
    for name in ("shelf", "phiplug-shelf"):
        assert phiplug("plugins", "uninstall", name).code == 0
    assert asked == [("uninstall", "--yes", "phiplug-shelf")] * 2


def test_a_disabled_backend_is_named_below_the_others(phiplug, monkeypatch):
    monkeypatch.setenv("PHIPLUG_DISABLE_PLUGINS", "toy")
    listed = phiplug("backends")
    assert listed.out.splitlines()[-1] == "disabled by PHIPLUG_DISABLE_PLUGINS: toy"
    assert "to copy" not in listed.out


def test_a_name_that_is_none_for_a_backend_is_refused(phiplug, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("Foo", "toy", "a b", "-x", "a_b"):
        assert phiplug("plugins", "new", "--", name).code == 2
    (tmp_path / "phiplug-taken").mkdir()
    assert "exists" in phiplug("plugins", "new", "taken").err


def test_a_new_plugin_passes_the_conformance_tests(phiplug, tmp_path, monkeypatch, site):
    monkeypatch.chdir(tmp_path)
    said = phiplug("plugins", "new", "two-words")
    assert said.out.endswith("  phiplug plugins check two-words\n")
    written = tmp_path / "phiplug-two-words"
    install(site, "phiplug-two-words", "", {"phiplug.backends": {"two-words": "phiplug_two_words"}})
    (site / "phiplug_two_words.py").unlink()
    (site / "phiplug_two_words").symlink_to(written / "phiplug_two_words")
    checked = phiplug("plugins", "check", "two-words", "--json")
    assert checked.code == 0
    outcomes = [result["outcome"] for result in json.loads(checked.out)]
    assert outcomes.count("passed") >= 30
    assert "failed" not in outcomes


@pytest.mark.parametrize("kind", ["gguf", "folder"])
def test_a_new_plugin_for_files_says_what_is_left_to_write(phiplug, tmp_path, monkeypatch, site, kind):
    monkeypatch.chdir(tmp_path)
    said = phiplug("plugins", "new", f"my-{kind}", "--for", kind)
    assert f"write `compute` in phiplug-my-{kind}/phiplug_my_{kind}/model.py" in said.out
    written = tmp_path / f"phiplug-my-{kind}"
    assert {"pyproject.toml", "README.md", ".gitignore"} <= {path.name for path in written.iterdir()}
    install(site, written.name, "", {"phiplug.backends": {f"my-{kind}": f"phiplug_my_{kind}"}})
    (site / f"phiplug_my_{kind}.py").unlink()
    (site / f"phiplug_my_{kind}").symlink_to(written / f"phiplug_my_{kind}")
    model = gguf_file(tmp_path) if kind == "gguf" else folder(tmp_path)
    ran = phiplug("run", "hel", "--raw", "-b", f"my-{kind}", "-m", str(model))
    assert ran.code == 1
    assert "Model.compute is still to be written" in ran.err


def gguf_file(tmp_path):
    from tiny import byte_tokens, write_llama

    return write_llama(tmp_path / "tiny.gguf", byte_tokens())


def folder(tmp_path):
    """The least that counts as a folder with a model: a tokenizer of three letters, and one small tensor."""
    made = tmp_path / "tiny"
    made.mkdir()
    config = {"model_type": "llama", "vocab_size": 3, "max_position_embeddings": 64, "eos_token_id": 0}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    model = {"type": "BPE", "vocab": {"h": 0, "e": 1, "l": 2}, "merges": []}
    vocabulary = {"model": model, "added_tokens": [], "pre_tokenizer": level, "decoder": level}
    for name, said in {
        "config.json": config,
        "tokenizer.json": vocabulary,
    }.items():
        (made / name).write_text(json.dumps(said))
    header = json.dumps({"lm_head.weight": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    (made / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    return made


def test_checking_a_backend_that_does_not_conform_fails_and_names_the_requirement(phiplug, site):
    install(site, "phiplug-bad", backend("bad"), {"phiplug.backends": {"bad": "phiplug_bad"}})
    ran = phiplug("plugins", "check", "bad")
    assert ran.code == 1
    assert "FAILED" in ran.out
    assert "Logits depend on every token that the slot holds" in ran.out


def test_one_conformance_test_runs_alone_and_shows_the_frames_of_the_authors_code(phiplug, site):
    raising = backend("bad", forward="raise OSError('no cells')")
    install(site, "phiplug-bad", raising, {"phiplug.backends": {"bad": "phiplug_bad"}})
    ran = phiplug("plugins", "check", "bad", "--test", "test_a_pass_can_be_read_twice")
    assert ran.code == 1
    assert "phiplug_bad.py" in ran.out
    assert "OSError: no cells" in ran.out
    assert "phiplug/testing" not in ran.out
    assert "bad: 0 tests passed, 1 failed, 0 skipped" in ran.out


def test_the_check_stops_at_the_first_failure_where_that_is_asked(phiplug, site):
    install(
        site, "phiplug-bad", backend("bad", load="raise OSError('no')"), {"phiplug.backends": {"bad": "phiplug_bad"}}
    )
    ran = phiplug("plugins", "check", "bad", "--stop-first")
    assert "the backend raised OSError: no" in ran.out
    assert "1 failed, 0 skipped" in ran.out


def test_a_conformance_test_that_is_mistyped_is_said(phiplug):
    ran = phiplug("plugins", "check", "toy", "--test", "test_a_pass_can_be_red_twice")
    assert ran.code == 2
    assert "did you mean test_a_pass_can_be_read_twice?" in ran.err
