"""Running the notebooks loses no edit of either half, and a second run changes nothing."""

import os
import re
import shlex
from pathlib import Path

import jupytext
import nbformat
import papermill
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jupytext.cli import jupytext as jupytext_command
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from relcore.errors import RelcoreError
from relcore.view.notebooks import inputs, run_all

KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
HEADER = {
    "kernelspec": KERNEL,
    "jupytext": {
        "formats": "ipynb,py:percent",
        "cell_metadata_filter": "tags,mystnb,-all",
        "notebook_metadata_filter": "kernelspec,jupytext,-all",
    },
}
CELLS = [
    new_code_cell("quick = True", metadata={"tags": ["parameters"]}),
    new_markdown_cell("# Title\n\ntext"),
    new_code_cell("def one():\n    return 1"),
]


@pytest.fixture
def ran(monkeypatch):
    """The notebooks whose cells were executed; none is really."""
    ran = []
    monkeypatch.setattr(
        papermill, "execute_notebook", lambda source, *_, **__: ran.append(Path(source))
    )
    return ran


def store(half: Path, cells) -> None:
    """Cells into a half; an .ipynb half keeps its metadata, as JupyterLab does."""
    py = half.suffix == ".py"
    metadata = HEADER if py else nbformat.read(half, as_version=4).metadata
    cells = [{**cell, "id": f"new-{i}"} for i, cell in enumerate(cells)]
    notebook = new_notebook(cells=nbformat.from_dict(cells), metadata=metadata)
    jupytext.write(notebook, half, fmt="py:percent" if py else "ipynb")


def pair(folder: Path) -> list[Path]:
    """A notebook that has been run."""
    store(folder / "one.py", CELLS)
    run_all(folder=folder)
    return [folder / "one.py", folder / "one.ipynb"]


def cells_of(half: Path) -> list[str]:
    return inputs(jupytext.read(half))


@st.composite
def edits(draw):
    """The cells after an edit, or none: some changed, left out, put in or in another order."""
    extra = st.builds(new_code_cell, st.sampled_from(["x = 2", "# a remark", "quick = True"]))
    tagged = st.just(new_code_cell("x = 2", metadata={"tags": ["hide-input"]}))
    pool = st.one_of(st.sampled_from(CELLS), extra, tagged)
    return draw(
        st.one_of(st.just(CELLS), st.lists(pool, min_size=1, max_size=5), st.permutations(CELLS))
    )


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(py=edits(), ipynb=edits(), newer=st.sampled_from([".py", ".ipynb"]))
def test_no_edit_is_lost(tmp_path_factory, ran, py, ipynb, newer):
    halves = pair(tmp_path_factory.mktemp("notebooks"))
    before = cells_of(halves[0])
    for half, cells in zip(halves, (py, ipynb), strict=True):
        store(half, cells)
        os.utime(half, (0, 1 if half.suffix == newer else 0))  # as a checkout may leave them
    edited = [cells_of(half) for half in halves]
    bytes_before = [half.read_bytes() for half in halves]
    changed = [cells for cells in edited if cells != before]
    ran.clear()
    if len(changed) == 2 and changed[0] != changed[1]:
        with pytest.raises(RelcoreError):
            run_all(folder=halves[0].parent)
        assert not ran and [half.read_bytes() for half in halves] == bytes_before
    else:
        run_all(folder=halves[0].parent)
        assert [cells_of(half) for half in halves] == [changed[0] if changed else before] * 2
        assert changed[1:] or ipynb is not CELLS or halves[0].read_bytes() == bytes_before[0]


def both_edited(folder: Path) -> list[Path]:
    halves = pair(folder)
    store(halves[0], [*CELLS, new_code_cell("py = 1")])
    store(halves[1], [CELLS[0], new_code_cell("ipynb = 1"), *CELLS[1:]])
    return halves


@pytest.mark.parametrize("keep", [".py", ".ipynb"])
def test_the_message_names_the_cells_and_commands_that_work(tmp_path, ran, keep):
    halves = both_edited(tmp_path)
    kept = cells_of(halves[keep == ".ipynb"])
    with pytest.raises(RelcoreError) as error:
        run_all(folder=tmp_path)
    message = str(error.value)
    assert "only the .py has: 4; only the .ipynb: 2)" in message and "\n" not in message
    (command,) = re.findall(rf"the {keep} with `jupytext (.*?)`", message)
    jupytext_command(shlex.split(command))
    run_all(folder=tmp_path)
    assert [cells_of(half) for half in halves] == [kept] * 2


def test_every_pair_is_looked_at_before_one_is_run(tmp_path, ran):
    both_edited(tmp_path)
    store(tmp_path / "a_first.py", CELLS)
    ran.clear()
    with pytest.raises(RelcoreError, match="one.py"):
        run_all(folder=tmp_path)
    assert not ran and not (tmp_path / "a_first.ipynb").exists()


def test_a_pair_that_was_never_run_here(tmp_path, ran):
    """Without a note of what it was run with nobody can say which half was edited."""
    halves = pair(tmp_path)
    stored = nbformat.read(halves[1], as_version=4)
    del stored.metadata["relcore"]
    nbformat.write(stored, halves[1])
    run_all(folder=tmp_path)  # they agree
    nbformat.write(stored, halves[1])
    store(halves[1], [*CELLS, new_code_cell("x = 2")])
    with pytest.raises(RelcoreError, match="only the .py has: none; only the .ipynb: 4"):
        run_all(folder=tmp_path)


def test_a_half_that_git_could_not_merge(tmp_path, ran):
    halves = pair(tmp_path)
    halves[1].write_text("<<<<<<< HEAD\n" + halves[1].read_text())
    ran.clear()
    with pytest.raises(RelcoreError, match="one.ipynb' is not a notebook: mend it, or delete it"):
        run_all(folder=tmp_path)
    assert not ran and halves[1].read_text().startswith("<<<<<<< HEAD")


def test_an_edit_while_the_notebook_runs(tmp_path, ran, monkeypatch):
    halves = pair(tmp_path)
    edited = [*CELLS, new_code_cell("x = 2")]
    monkeypatch.setattr(papermill, "execute_notebook", lambda *_, **__: store(halves[1], edited))
    with pytest.raises(RelcoreError, match="one.ipynb' was edited while it ran"):
        run_all(folder=tmp_path)
    monkeypatch.setattr(papermill, "execute_notebook", lambda *_, **__: None)
    run_all(folder=tmp_path)
    assert [len(cells_of(half)) for half in halves] == [4, 4]


def test_running_again_changes_nothing(tmp_path):
    """Not one byte, in spite of the random ids of cells, widgets and styled tables."""
    widgets = """
        import ipywidgets as w
        rows = [w.HBox([w.IntSlider(), w.Label("same")]) for _ in range(3)]
        hidden = w.jslink((rows[2].children[0], "value"), (rows[0].children[0], "value"))
        w.jslink((rows[1].children[0], "value"), (rows[0].children[0], "max"))
        w.VBox(rows)"""
    tables = "import pandas\nfor _ in range(2):\n    display(pandas.DataFrame([1]).style)"
    shown = "\n".join(line.strip() for line in widgets.strip().splitlines())
    store(
        tmp_path / "one.py",
        [*CELLS, *map(new_code_cell, (shown, "one()", "one()", "rows[1]", tables))],
    )
    contents = []
    for _ in range(2):
        run_all(folder=tmp_path)
        contents.append((tmp_path / "one.ipynb").read_text())
    notebook = nbformat.reads(contents[0], as_version=4)
    nbformat.validate(notebook)
    state = notebook.metadata.widgets["application/vnd.jupyter.widget-state+json"]["state"]
    views = [
        o.data["application/vnd.jupyter.widget-view+json"]["model_id"]
        for c in notebook.cells[3:]
        if c.cell_type == "code"
        for o in c.outputs
        if "application/vnd.jupyter.widget-view+json" in o.data
    ]
    # Each view and each widget that one refers to is there, and no two became one.
    assert len(views) == 2 and set(views) <= set(state)
    assert {w for s in state.values() for w in re.findall(r"IPY_MODEL_(\w+)", str(s))} <= set(state)
    names = [s["model_name"] for s in state.values()]
    assert (names.count("IntSliderModel"), names.count("LabelModel"), names.count("LinkModel")) == (
        3,
        3,
        2,
    )
    assert len({cell.id for cell in notebook.cells}) == len(notebook.cells)
    assert len(set(re.findall(r'"(T_\w{5})\\"', contents[0]))) == 2
    assert contents[0] == contents[1]
