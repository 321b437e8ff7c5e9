"""Execute the notebooks beside this file, and keep their outputs in them.

python docs/notebooks/execute.py
"""

from __future__ import annotations

from pathlib import Path

import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).parent


def executed(file: Path, folder: Path = HERE) -> nbformat.NotebookNode:
    """Return a notebook with its outputs, run from the first cell to the last.

    Args:
        file: the notebook.
        folder: it runs here.

    Raises:
        CellExecutionError: a cell failed.
    """
    notebook = nbformat.read(file, as_version=4)
    resources = {"metadata": {"path": str(folder)}}
    client = NotebookClient(notebook, timeout=1800, resources=resources)  # seconds per cell
    client.execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # times, which differ at each run
    return notebook


if __name__ == "__main__":
    for file in sorted(HERE.glob("*.ipynb")):
        nbformat.write(executed(file), file)
        print(f"{file}: {file.stat().st_size / 1000:.0f} kB")
