"""The notebook runs from top to bottom, and is saved as people should find it."""

from __future__ import annotations

import ast
from pathlib import Path

import nbclient
import nbformat
import pytest

import tutelage

NOTEBOOK = Path(__file__).parents[2] / "docs" / "first.ipynb"


def code_cells() -> list[str]:
    return [cell.source for cell in nbformat.read(NOTEBOOK, as_version=4).cells if cell.cell_type == "code"]


def test_the_notebook_is_valid_and_saved_without_outputs():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    assert all(not cell.get("outputs") and cell.get("execution_count") is None for cell in notebook.cells if cell.cell_type == "code")


def test_the_notebook_goes_through_python_and_its_imports_exist():
    for source in code_cells():
        assert not any(line.startswith(("!", "%")) for line in source.splitlines())
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("tutelage"):
                exec(compile(ast.Module([node], []), "first.ipynb", "exec"), {})


SMALLER = {"800_000": "20_000", "num_demonstrations=2000": "num_demonstrations=80",
           '"max_steps": 120': '"max_steps": 2',
           '"limit": 600': '"limit": 60',
           '"num_iterations": 12': '"num_iterations": 2', "max_prompts=100": "max_prompts=8", '"max_tokens": 48': '"max_tokens": 8'}


def run(notebook, folder: Path) -> str:
    """Execute every cell; returns what was printed. Checks what does not hang on the numbers."""
    with pytest.MonkeyPatch.context() as patch:                     # the kernel stands in another folder: what is tested here runs there
        patch.setenv("PYTHONPATH", str(Path(tutelage.__file__).resolve().parents[1]))
        nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(folder)}}).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    printed = "".join(output.get("text", "") for output in outputs)
    assert "held-out accuracy" in printed and "ppo  reward" in printed
    assert "gradient: [-0.167, -0.333, 0.0]" in printed             # -advantage * ratio / 3 tokens: 0.5, 1, and clipped
    assert sum("<svg" in str(output.get("data", {}).get("text/html", "")) for output in outputs) == 3
    return printed


def test_the_notebook_runs_with_smaller_numbers(tmp_path):
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    for before, after in SMALLER.items():
        assert sum(before in cell.source for cell in notebook.cells) >= 1, before
        for cell in notebook.cells:
            cell.source = cell.source.replace(before, after)
    run(notebook, tmp_path)


@pytest.mark.slow
def test_the_notebook_runs_as_it_stands(tmp_path):
    run(nbformat.read(NOTEBOOK, as_version=4), tmp_path)
