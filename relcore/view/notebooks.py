"""Run the notebooks: sync each pair, execute with papermill, keep only what belongs in git."""

import time
from pathlib import Path

from ..errors import RelcoreError
from ..files import replacing
from ..paths import NOTEBOOKS


def normalise(notebook):
    """Take out what papermill adds, or the next sync would write it into the .py file."""
    notebook.cells = [c for c in notebook.cells if "injected-parameters" not in c.metadata.get("tags", [])]
    notebook.metadata.pop("papermill", None)
    for cell in notebook.cells:
        cell.metadata.pop("papermill", None)
        cell.metadata.pop("execution", None)
        if not cell.metadata.get("tags"):
            cell.metadata.pop("tags", None)
    return notebook


def run_all(quick: bool = True, only: str | None = None, folder: Path = NOTEBOOKS) -> list[dict]:
    """Run every notebook of the folder (whose name contains `only`) in place; [{name, seconds}].

    The .py file is the source: the .ipynb is made from it, executed with the parameter `quick`,
    normalised and written in one step. A failing cell leaves the old .ipynb as it was.
    """
    try:
        import jupytext
        import nbformat
        import papermill
    except ImportError as error:
        raise RelcoreError(
            f"running notebooks needs the package '{error.name}': pip install 'relcore[book]'"
        ) from error
    sources = [s for s in sorted(folder.glob("*.py")) if not only or only in s.stem]
    if not sources:
        raise RelcoreError(f"no notebook in '{folder}'" + (f" has '{only}' in its name" if only else ""))
    done = []
    for source in sources:
        target, start = source.with_suffix(".ipynb"), time.perf_counter()
        with replacing(target) as temporary:
            jupytext.write(jupytext.read(source), temporary, fmt="ipynb")
            try:
                papermill.execute_notebook(temporary, temporary, {"quick": quick}, cwd=folder, progress_bar=True)
            except papermill.PapermillExecutionError as error:
                raise RelcoreError(f"notebook '{source.name}' failed in cell {error.exec_count}: "
                                   f"{error.ename}: {error.evalue}") from error  # fmt: skip
            nbformat.write(normalise(nbformat.read(temporary, as_version=4)), temporary)
        done.append({"name": source.stem, "seconds": round(time.perf_counter() - start, 1)})
    return done
