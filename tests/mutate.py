"""Breaks one line at a time, and asks the tests whether they notice: `make mutate`.

Thirty mutants, chosen by a fixed seed: comparisons, arithmetic, constants, conditions of sampling/, engine/ and gguf/.
A mutant that survives is either a missing test or a change that alters nothing; `HARMLESS` names the latter, and why.
"""

from __future__ import annotations

import ast
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from shutil import copytree

ROOT = Path(__file__).parents[1]
COUNT = 30
SEED = 1
PACKAGES = ("sampling", "engine", "gguf")
SWAPS = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.And: ast.Or, ast.Or: ast.And,
}  # fmt: skip
TESTS = [
    *(f"tests/unit/test_{name}.py" for name in (
        "engine", "engine_backend", "engine_machine", "scheduler", "llm", "sampling", "noise", "draw", "nucleus", "row",
        "penalties", "repetition", "stages", "gguf", "stopping", "detokenize",
    )),
    "tests/conformance/test_golden_sampling.py",
]  # fmt: skip
HARMLESS = {
    "_UNIT = np.float32((127 << 23) + 1000)": "a wider margin",
    "limit = reach * np.float64(best * _SLACK)": "a wider margin, which only costs time",
    "limit = math.log((1.0 - p) / len(row.x)) - SLACK": "what is dropped too early is counted as a bound of the mass",
    "MAX_ARRAY = 2**21": "another limit that no file comes near",
    '"embedding_length": (1, 2**20)': "another limit that no file comes near",
    "if shared - held >= WORTH_COPYING and len(slot.ids) < shared": "one token of waiting more or less",
}
"""The beginning of a line -> why no test sees its mutant: it costs time, or moves a limit that is a matter of taste."""


def sites(path: Path) -> Iterator[tuple[int, int]]:
    """Yield (index of a node in the order of `ast.walk`, line) of each place that can be changed."""
    for index, node in enumerate(ast.walk(ast.parse(path.read_text(encoding="utf-8")))):
        if _can_change(node):
            yield index, node.lineno


def mutated(source: str, index: int) -> str:
    """Return the source with one place changed."""
    tree = ast.parse(source)
    node = list(ast.walk(tree))[index]
    if isinstance(node, ast.Compare):
        node.ops[0] = SWAPS[type(node.ops[0])]()
    elif isinstance(node, ast.BinOp | ast.BoolOp):
        node.op = SWAPS[type(node.op)]()
    elif isinstance(node, ast.Constant):
        node.value += 1
    return ast.unparse(tree)


def _can_change(node: ast.AST) -> bool:
    if isinstance(node, ast.Compare):
        return type(node.ops[0]) in SWAPS
    if isinstance(node, ast.BinOp | ast.BoolOp):
        return type(node.op) in SWAPS
    return isinstance(node, ast.Constant) and type(node.value) is int


def survives(tree: Path) -> bool:
    """Run the tests on a copy of the project; a run that hangs has noticed."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "--no-header", "-p", "no:cacheprovider", *TESTS]
    environment = {"PYTHONPATH": f"{tree}:{tree}/tests:{tree}/backends", "PATH": "/usr/bin:/bin", "HOME": str(tree)}
    try:
        done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, timeout=300, check=False)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def main() -> int:
    """Report each mutant; fail where one survives that is not known to be harmless."""
    found = [
        (path, index, line)
        for package in PACKAGES
        for path in sorted((ROOT / "phiplug" / package).glob("*.py"))
        for index, line in sites(path)
    ]
    chosen = random.Random(SEED).sample(found, COUNT)
    survivors = 0
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        for part in ("phiplug", "tests", "backends/phiplug_toy"):
            copytree(ROOT / part, tree / part)
        (tree / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text(encoding="utf-8"), encoding="utf-8")
        for path, index, line in chosen:
            name = f"{path.relative_to(ROOT)}:{line}: {path.read_text(encoding='utf-8').splitlines()[line - 1].strip()}"
            copy = tree / path.relative_to(ROOT)
            before = copy.read_text(encoding="utf-8")
            copy.write_text(mutated(before, index), encoding="utf-8")
            alive = survives(tree)
            copy.write_text(before, encoding="utf-8")
            code = name.split(": ", 1)[1]
            reason = next((reason for start, reason in HARMLESS.items() if code.startswith(start)), "")
            survivors += alive and not reason
            print("survived" if alive else "noticed ", name, f"({reason})" if alive and reason else "", flush=True)
    return min(survivors, 1)


if __name__ == "__main__":
    sys.exit(main())
