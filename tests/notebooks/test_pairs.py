"""The two halves of a notebook say the same, and the stored half is fit for the repository and for
the book.
"""

import re
from itertools import pairwise
from pathlib import Path

import jupytext
import nbformat
import pytest
import yaml
from jupytext.compare import compare_notebooks

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.py"))
each_notebook = pytest.mark.parametrize("py", NOTEBOOKS, ids=lambda p: p.stem)
HINT = "run `relcore notebooks`"
WIDGET = "application/vnd.jupyter.widget-view"
SENTENCE = re.compile(r"(?!(An? i|I)mage of |(A f|F)igure of )[A-Z].{30,}\.")


def test_every_chapter_is_a_pair():
    toc = yaml.safe_load((ROOT / "book/_toc.yml").read_text())
    pages = [toc["root"], *(c["file"] for p in toc["parts"] for c in p["chapters"])]
    in_book = {Path(page).stem for page in pages if page.startswith("notebooks/")}
    stored = {p.stem for p in (ROOT / "notebooks").glob("*.ipynb")}
    assert {p.stem for p in NOTEBOOKS} == stored == in_book


@each_notebook
def test_halves_agree(py):
    compare_notebooks(jupytext.read(py), jupytext.read(py.with_suffix(".ipynb")), fmt="py:percent")


@each_notebook
def test_stored_half_is_small(py):
    size = py.with_suffix(".ipynb").stat().st_size
    assert size < 1_000_000, f"{size / 1e6:.2f} MB: use fewer or smaller frames (64-colour PNG)"


@each_notebook
def test_stored_half_is_run_and_normalised(py):
    nb = nbformat.read(py.with_suffix(".ipynb"), as_version=4)
    assert "papermill" not in nb.metadata, HINT  # JupyterLab then refuses the pair as out of step
    for i, cell in enumerate(nb.cells):
        extra = {"papermill", "execution"} & set(cell.metadata)
        assert not extra and cell.metadata.get("tags") != [], f"cell {i}: {HINT}"
        assert "injected-parameters" not in cell.metadata.get("tags", []), f"cell {i}: {HINT}"
        if cell.cell_type == "code" and cell.source:
            assert cell.execution_count, f"cell {i} was not run: {HINT}"
            assert not [o for o in cell.outputs if o.output_type == "error"], f"cell {i} failed"
            printed = "".join(
                o.get("text", "") + o.get("data", {}).get("text/plain", "") for o in cell.outputs
            )
            streams = [o.get("name") for o in cell.outputs]
            whole = all(a is None or a != b for a, b in pairwise(streams))
            assert whole, f"cell {i}'s text is in pieces: {HINT}"
            text = "".join(o.get("text", "") for o in cell.outputs)
            # As the page breaks them.
            lines = sum(1 + len(line) // 86 for line in text.splitlines())
            assert lines <= 20 or "hide-output" in cell.metadata.get("tags", []), (
                f"cell {i}: fold its {lines} lines"
            )
            local = re.search(rf"{re.escape(str(ROOT))}|(?<![\w.])/(home|Users|root|tmp)/", printed)
            assert not local, f"cell {i} prints a local path"
            assert " at 0x" not in printed, f"cell {i} prints a place in memory: {HINT}"


@each_notebook
def test_every_picture_is_told_in_a_sentence(py):
    told = []
    for i, cell in enumerate(nbformat.read(py.with_suffix(".ipynb"), as_version=4).cells):
        for output in cell.get("outputs", ()):
            kinds = output.get("data", {})
            if any(kind.startswith(("image/", WIDGET)) for kind in kinds):
                assert "image/png" in kinds, f"cell {i}: no picture where widgets are not drawn"
                told.append(output.metadata.get("image/png", {}).get("alt", ""))
                how = f"use figures.show or controls, and {HINT}"
                assert SENTENCE.fullmatch(told[-1]), f"cell {i}: no sentence: {how}"
    assert len(set(told)) == len(told)
