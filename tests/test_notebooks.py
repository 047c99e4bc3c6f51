"""Every notebook runs from top to bottom, and was committed as it ran."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).parent.parent / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def test_there_are_notebooks() -> None:
    assert NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(FOLDER.parent))
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(FOLDER)}}
    ).execute()
    drawn = [kinds(before) == kinds(after) for before, after in committed_and_new(path, notebook)]
    assert all(drawn), f"cells whose outputs are of another kind than the committed ones: {drawn}"


def committed_and_new(path: Path, ran: nbformat.NotebookNode) -> list[tuple]:
    cells = zip(nbformat.read(path, as_version=4).cells, ran.cells, strict=True)
    return [(before, after) for before, after in cells if after.cell_type == "code"]


def kinds(cell: nbformat.NotebookNode) -> set[str]:
    """What a cell put out: printed text, a table, a figure."""
    return {kind for output in cell.outputs for kind in output.get("data", {output.output_type: None})}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_small(path: Path) -> None:
    assert path.stat().st_size < 1_000_000
