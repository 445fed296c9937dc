"""`phiplug cache` lists all that is kept: no file of the source writes to the disk that is not named here."""

from __future__ import annotations

import ast
from pathlib import Path

from phiplug.cli.cache import ROWS

ROOT = Path(__file__).parents[2]
SOURCES = [*ROOT.glob("phiplug/**/*.py"), *ROOT.glob("backends/phiplug*/**/*.py")]

WHERE_THE_USER_SAYS, TEMPORARY = "where the user says", "temporary"
WRITERS = {  # the row of what each keeps, or why it keeps nothing
    "phiplug/answerlog.py": "log",
    "phiplug/bench/results.py": WHERE_THE_USER_SAYS,  # below results/, with --share
    "phiplug/bench/snapshot.py": WHERE_THE_USER_SAYS,
    "phiplug/cli/terminal.py": "history",
    "phiplug/config.py": WHERE_THE_USER_SAYS,  # `phiplug logs off` says it
    "phiplug/models/cache.py": "measurements",
    "phiplug/models/download.py": "downloads",
    "phiplug/models/leftovers.py": "downloads",  # huggingface_hub's locks, which are empty
    "phiplug/models/repository.py": "names",  # and models
    "phiplug/plugins/scaffold.py": WHERE_THE_USER_SAYS,
    "phiplug/testing/__main__.py": TEMPORARY,
    "phiplug/testing/loading.py": TEMPORARY,
    "phiplug/userfiles.py": WHERE_THE_USER_SAYS,
}
METHODS = {
    "write_text", "write_bytes", "mkdir", "makedirs", "touch", "symlink_to", "hardlink_to", "mkstemp", "mkdtemp",
    "NamedTemporaryFile", "TemporaryDirectory", "FileHistory", "copyfile", "copytree", "copy2",
    "savez", "savez_compressed", "tofile",
}  # fmt: skip


def writes(call):
    """Whether a call makes a file or a folder."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    owner = getattr(getattr(call.func, "value", None), "id", "")
    if name == "open" and owner == "os":
        return any(getattr(node, "attr", "") == "O_CREAT" for node in ast.walk(call))
    if name == "open":
        modes = [each.value for each in call.args if isinstance(each, ast.Constant) and isinstance(each.value, str)]
        modes += [each.value.value for each in call.keywords if each.arg == "mode" and hasattr(each.value, "value")]
        return any(set(mode) & set("wax+") for mode in modes if set(mode) <= set("rwaxbt+"))
    if name == "write_text" and owner in ("", "userfiles"):
        return False  # through `phiplug.userfiles`, which is named below
    return name in METHODS or (owner, name) == ("sqlite3", "connect")


def test_every_file_that_writes_has_its_row_or_its_reason():
    found = set()
    for path in SOURCES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if "tests" not in path.relative_to(ROOT).parts and any(
            isinstance(node, ast.Call) and writes(node) for node in ast.walk(tree)
        ):
            found.add(path.relative_to(ROOT).as_posix())
    assert found == set(WRITERS)
    assert set(WRITERS.values()) - {WHERE_THE_USER_SAYS, TEMPORARY} == {
        row.name for row in ROWS if row.removed_by is None
    }


def test_folders_of_the_user_are_asked_for_by_those_files_alone():
    asked = {
        path.relative_to(ROOT).as_posix()
        for path in SOURCES
        if "import platformdirs" in path.read_text(encoding="utf-8")
    }
    assert asked == {"phiplug/cli/terminal.py", "phiplug/load.py", "phiplug/places.py"}
