"""Run the notebooks: sync each pair, execute with papermill, keep only what belongs in git."""

import re
import sys
import time
from pathlib import Path

from ..errors import RelcoreError
from ..files import replacing
from ..paths import NOTEBOOKS

# Of two cores that draw 20 pictures a second: by the pictures in the tables that a full run makes again.
FULL_MINUTES = {"fig2": 8, "fig3a": 12, "fig3b": 2, "fig4": 25, "fig5": 20, "fig6": 3, "fig7": 5, "fig8": 80}


def normalise(notebook):
    """Take out what papermill adds, or the next sync would write it into the .py file, and places in memory."""
    notebook.cells = [c for c in notebook.cells if "injected-parameters" not in c.metadata.get("tags", [])]
    notebook.metadata.pop("papermill", None)
    for cell in notebook.cells:
        cell.metadata.pop("papermill", None)
        cell.metadata.pop("execution", None)
        if not cell.metadata.get("tags"):
            cell.metadata.pop("tags", None)
        for data in (output.data for output in cell.get("outputs", ()) if "data" in output):
            if "text/plain" in data:
                data["text/plain"] = re.sub(r" at 0x[0-9a-f]+>", ">", data["text/plain"])
    return notebook


def run_all(quick: bool = True, only: str | None = None, folder: Path = NOTEBOOKS) -> list[dict]:
    """Run every notebook of the folder (whose name contains `only`) in place; [{name, seconds}].

    How long it will take, roughly, is said on stderr beforehand. The .py file is the source: the .ipynb is made from
    it, executed with the parameter `quick`, normalised and written in one step. A failing cell leaves the old one.
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
    minutes = sum(1 if quick else FULL_MINUTES.get(source.stem.split("_")[0], 1) for source in sources)
    print(f"{len(sources)} notebooks, about {minutes} minutes on two cores with bf16 units", file=sys.stderr)
    done = []
    for source in sources:
        target, start = source.with_suffix(".ipynb"), time.perf_counter()
        with replacing(target) as temporary:
            jupytext.write(jupytext.read(source), temporary, fmt="ipynb")
            try:
                papermill.execute_notebook(temporary, temporary, {"quick": quick}, cwd=folder, progress_bar=True,
                                           coalesce_streams=True)  # fmt: skip
            except papermill.PapermillExecutionError as error:
                raise RelcoreError(f"notebook '{source.name}' failed in cell {error.exec_count}: "
                                   f"{error.ename}: {error.evalue}") from error  # fmt: skip
            nbformat.write(normalise(nbformat.read(temporary, as_version=4)), temporary)
        done.append({"name": source.stem, "seconds": round(time.perf_counter() - start, 1)})
    return done
