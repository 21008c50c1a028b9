"""Run the notebooks: sync each pair, execute with papermill, keep only what belongs in git."""

import json
import re
import sys
import time
from difflib import SequenceMatcher
from hashlib import sha256
from itertools import count
from pathlib import Path

from ..errors import RelcoreError
from ..files import replacing
from ..paths import NOTEBOOKS

try:
    import jupytext
    import nbformat
    import papermill
except ImportError as error:
    raise RelcoreError(
        f"running notebooks needs the package '{error.name}': pip install 'relcore[book]'"
    ) from error

WIDGETS = "application/vnd.jupyter.widget-state+json"
VIEW = "application/vnd.jupyter.widget-view+json"
# Of two cores that draw 20 pictures a second: by the pictures in the tables that a full run makes
# again.
FULL_MINUTES = {
    "fig2": 8,
    "fig3a": 12,
    "fig3b": 2,
    "fig4": 25,
    "fig5": 20,
    "fig6": 3,
    "fig7": 5,
    "fig8": 80,
}


def inputs(notebook) -> list[str]:
    """The cells without their outputs, as the .py half spells them."""
    text = jupytext.writes(notebook, fmt="py:percent")
    return [cell.strip() for cell in re.split(r"^(?=# %%)", text, flags=re.M)[1:]]


def digest(cells: list[str]) -> str:
    return sha256(json.dumps(cells).encode()).hexdigest()


def edited_in_ipynb(source: Path) -> bool:
    """Whether the .ipynb half alone was edited; RelcoreError if both may have been.

    The .ipynb half keeps the digest of the inputs with which it was run: a half that still has them
    was not edited. Modification times would say nothing after a checkout.
    """
    target = source.with_suffix(".ipynb")
    if not target.exists():
        return False
    try:
        stored = jupytext.read(target)
    except (ValueError, KeyError, AttributeError) as error:  # conflict markers, say
        raise RelcoreError(
            f"'{target}' is not a notebook: mend it, or delete it to make it from '{source.name}'"
        ) from error
    ours, theirs = inputs(jupytext.read(source)), inputs(stored)
    ran = stored.metadata.get("relcore", {}).get("inputs")
    if ours == theirs or digest(theirs) == ran:
        return False
    if digest(ours) == ran:
        return True
    changes = SequenceMatcher(None, ours, theirs, autojunk=False).get_opcodes()
    changes = [spans for kind, *spans in changes if kind != "equal"]
    mine = [str(i + 1) for start, end, _, _ in changes for i in range(start, end)]
    other = [str(i + 1) for _, _, start, end in changes for i in range(start, end)]
    raise RelcoreError(
        f"'{source}' and '{target.name}' differ (cells that only the .py has: "
        f"{', '.join(mine) or 'none'}; only the .ipynb: {', '.join(other) or 'none'}): carry over "
        "by "
        f"hand what is missing, then keep the .py with `jupytext --to ipynb --update {source}` or "
        f"the .ipynb with `jupytext --to py:percent {target}`"
    )


def number_widgets(notebook):
    """The notebook with its widgets numbered by their places on the page: their ids are random."""
    state = notebook.metadata.get("widgets", {}).get(WIDGETS, {}).get("state", {})
    texts = {widget: json.dumps(model, sort_keys=True) for widget, model in state.items()}
    own_id, numbers = re.compile(r"[0-9a-f]{32}"), {}

    def spell(text: str) -> str:
        return own_id.sub(lambda found: numbers.get(found[0], found[0]), text)

    def visit(widget: str) -> None:
        if widget in texts and widget not in numbers:
            numbers[widget] = f"{len(numbers):032x}"
            for part in own_id.findall(texts[widget]):
                visit(part)

    outputs = (output for cell in notebook.cells for output in cell.get("outputs", ()))
    for output in outputs:
        visit(output.get("data", {}).get(VIEW, {}).get("model_id"))
    # Then what no widget on the page refers to, such as the links between them.
    for widget in sorted(texts, key=lambda widget: spell(texts[widget])):
        visit(widget)
    return nbformat.reads(spell(nbformat.writes(notebook)), as_version=4)


def normalise(notebook):
    """Take out what papermill adds, or the next sync would write it into the .py file, and places
    in memory.

    Ids follow from the contents, so that a run without changes changes nothing.
    """
    notebook.cells = [
        c for c in notebook.cells if "injected-parameters" not in c.metadata.get("tags", [])
    ]
    notebook.metadata.pop("papermill", None)
    tables = count()
    for cell in notebook.cells:
        cell.metadata.pop("papermill", None)
        cell.metadata.pop("execution", None)
        if not cell.metadata.get("tags"):
            cell.metadata.pop("tags", None)
        for data in (output.data for output in cell.get("outputs", ()) if "data" in output):
            if styled := re.search(r'id="(T_[0-9a-f]{5})"', data.get("text/html", "")):  # by pandas
                table = f"T_{next(tables):05x}"
                data["text/html"] = data["text/html"].replace(styled[1], table)
            if "text/plain" in data:
                data["text/plain"] = re.sub(r" at 0x[0-9a-f]+>", ">", data["text/plain"])
    notebook.metadata["relcore"] = {"inputs": digest(inputs(notebook))}
    for i, cell in enumerate(notebook.cells):
        earlier = [other.source for other in notebook.cells[:i]].count(cell.source)
        cell.id = digest([cell.source, str(earlier)])[:8]
    return number_widgets(notebook)


def run_all(quick: bool = True, only: str | None = None, folder: Path = NOTEBOOKS) -> list[dict]:
    """Run every notebook of the folder (whose name contains `only`) in place; [{name, seconds}].

    How long it will take, roughly, is said on stderr beforehand. If the .ipynb half alone was
    edited, the .py half is made from it first; if both were, nothing is run (RelcoreError). Then
    the .ipynb is made from the .py, executed with the parameter `quick`, normalised and written in
    one step. A failing cell leaves the old one.
    """
    sources = [s for s in sorted(folder.glob("*.py")) if not only or only in s.stem]
    if not sources:
        raise RelcoreError(
            f"no notebook in '{folder}'" + (f" has '{only}' in its name" if only else "")
        )
    for source in [s for s in sources if edited_in_ipynb(s)]:  # all are compared first
        print(f"{source.name}: takes the cells of its .ipynb, which was edited", file=sys.stderr)
        with replacing(source) as temporary:
            jupytext.write(jupytext.read(source.with_suffix(".ipynb")), temporary, fmt="py:percent")
    minutes = sum(
        1 if quick else FULL_MINUTES.get(source.stem.split("_")[0], 1) for source in sources
    )
    print(
        f"{len(sources)} notebooks, about {minutes} minutes on two cores with bf16 units",
        file=sys.stderr,
    )
    done = []
    for source in sources:
        target, start = source.with_suffix(".ipynb"), time.perf_counter()
        with replacing(target) as temporary:
            jupytext.write(jupytext.read(source), temporary, fmt="ipynb")
            try:
                papermill.execute_notebook(
                    temporary,
                    temporary,
                    {"quick": quick},
                    cwd=folder,
                    progress_bar=True,
                    coalesce_streams=True,
                )
            except papermill.PapermillExecutionError as error:
                raise RelcoreError(
                    f"notebook '{source.name}' failed in cell {error.exec_count}: "
                    f"{error.ename}: {error.evalue}"
                ) from error
            nbformat.write(normalise(nbformat.read(temporary, as_version=4)), temporary)
            if edited_in_ipynb(source):
                raise RelcoreError(
                    f"'{target}' was edited while it ran and is left so: run it again"
                )
        done.append({"name": source.stem, "seconds": round(time.perf_counter() - start, 1)})
    return done
