"""The map of the house: who may import whom, held against every import statement."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SRC = Path(__file__).parents[1] / "src" / "tutelage"

BELOW_RECIPES = {"base", "algos", "text", "feedback", "lineage", "models", "rollout", "rewards", "train", "evals", "attribution"}
MAY_IMPORT = {
    "__init__.py": {"base", "recipes", "train"},  # the Python door, which opens when it is used
    "base": set(),
    "algos": set(),
    "text": {"base"},
    "feedback": {"base", "text"},  # text knows nothing of people: near copies among demonstrations are found as in the splits
    "lineage": {"base", "feedback"},
    "models": {"base", "algos"},
    "rollout": {"base", "models", "text", "algos"},
    "rewards": {"base", "rollout", "models", "text"},
    "train": {"base", "models", "lineage"},
    "evals": {"base", "rewards", "rollout", "models", "text", "algos"},
    "attribution": {"base", "models", "rollout", "feedback", "lineage"},
    "recipes": BELOW_RECIPES,
    "proofs": BELOW_RECIPES | {"recipes"},
    "demo": {"base", "text", "feedback"},
    "web": {"base", "feedback", "lineage"},
    "studio": {"base", "web", "feedback", "lineage", "text"},
    "serve": {"base", "web", "rollout", "rewards", "models", "text", "feedback", "lineage"},
    "cli": BELOW_RECIPES | {"recipes", "proofs", "demo", "web", "studio", "serve"},
}
WITHOUT_TORCH = {"base", "text", "feedback", "lineage", "demo", "web", "studio"}  # the rooms marked with a circle
CHAINING = {"pipeline", "door", "cross_validate"}  # recipes that chain stages may import other recipes

FILES = sorted(SRC.rglob("*.py"))


def room_of(path: Path) -> str:
    return path.relative_to(SRC).parts[0]


def imports(path: Path, tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Absolute dotted names a file imports, function-level ones too; `from a import b` counts as a.b."""
    package = ("tutelage", *path.relative_to(SRC).parent.parts)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (base, node.module) if part)
            yield from ((f"{module}.{alias.name}", node.lineno) for alias in node.names)


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def at_import_time(tree: ast.Module) -> list[ast.stmt]:
    """Statements that run when the module is imported: not those in functions nor under TYPE_CHECKING."""
    found, todo = [], list(tree.body)
    while todo:
        node = todo.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        found.append(node)
        todo += [child for child in ast.iter_child_nodes(node) if isinstance(child, (ast.stmt, ast.ExceptHandler))]
    return found


def violations(path: Path, tree: ast.Module) -> Iterator[str]:
    """Imports that point the wrong way on the map."""
    room = room_of(path)
    for name, line in imports(path, tree):
        parts = name.split(".")
        where = f"{path.relative_to(SRC)}:{line}: {name}"
        if parts[0] == "tutelage":
            other = parts[1] if len(parts) > 1 else ""
            if other in MAY_IMPORT and other != room and other not in MAY_IMPORT.get(room, set()):
                yield f"{where} ({room} may not import {other})"
            own = path.stem.removesuffix("_setup").removesuffix("_adapters")
            if room == other == "recipes" and own not in CHAINING and not (len(parts) > 2 and parts[2].startswith(own)):
                yield f"{where} (recipes do not import each other)"
        elif room == "algos" and parts[0] != "torch" and parts[0] not in sys.stdlib_module_names:
            yield f"{where} (algos are functions of tensors only)"


def test_every_room_is_on_the_map():
    assert {room_of(path) for path in FILES if path.parent != SRC} <= set(MAY_IMPORT)


def test_the_map_has_no_circles():
    order: list[str] = []
    while len(order) < len(MAY_IMPORT):
        free = [room for room, below in MAY_IMPORT.items() if room not in order and below <= set(order)]
        assert free, set(MAY_IMPORT) - set(order)
        order += free


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SRC)))
def test_imports_point_one_way(path):
    assert list(violations(path, parsed(path))) == []


@pytest.mark.parametrize("path", [p for p in FILES if room_of(p) in WITHOUT_TORCH], ids=lambda path: str(path.relative_to(SRC)))
def test_rooms_with_a_circle_do_not_import_torch(path):
    for statement in at_import_time(parsed(path)):
        if isinstance(statement, (ast.Import, ast.ImportFrom)):
            names = {name.split(".")[0] for name, _ in imports(path, ast.Module([statement], []))}
            assert not names & {"torch", "transformers"}, f"{path.relative_to(SRC)}:{statement.lineno}"


@pytest.mark.parametrize(("file", "code"), [
    ("base/x.py", "from ..text import chat"), ("algos/x.py", "import numpy"), ("train/x.py", "def f():\n    import tutelage.recipes.ppo"),
    ("models/x.py", "from tutelage import rollout"), ("recipes/sft.py", "from .ppo import train_ppo"),
    ("demo/x.py", "from ..recipes import ppo"),
])
def test_the_guard_sees_a_wrong_import(file, code):
    assert list(violations(SRC / file, ast.parse(code)))


def test_rooms_with_a_circle_load_without_torch():
    modules = [".".join(("tutelage", *path.relative_to(SRC).with_suffix("").parts)) for path in FILES if room_of(path) in WITHOUT_TORCH]
    modules = [module.removesuffix(".__init__") for module in modules]
    code = "import sys, importlib\nfor name in sys.argv[1:]: importlib.import_module(name)\nassert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code, *modules, "tutelage.cli.main"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
