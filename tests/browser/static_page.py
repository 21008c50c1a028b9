"""A small book of widgets, built as `make book` builds the large one.

python tests/browser/static_page.py FOLDER  builds the explorable figures of two networks there, and
a page in which networks run.
"""

import subprocess
import sys
from pathlib import Path

import nbformat
import yaml
from IPython.core.formatters import DisplayFormatter
from ipywidgets.embed import embed_data

from relcore.view.notebooks import WIDGETS

ROOT = Path(__file__).parents[2]


def notebook(widgets):
    """A notebook with one cell a widget, as papermill leaves it."""
    cells = [nbformat.v4.new_markdown_cell("# Figures")]
    for widget in widgets:
        data, metadata = DisplayFormatter().format(widget)
        output = nbformat.v4.new_output("display_data", data, metadata=metadata)
        cells.append(nbformat.v4.new_code_cell("figure", outputs=[output]))
        cells[-1].metadata["tags"] = ["remove-input"]
    state = embed_data(views=list(widgets), drop_defaults=False)["manager_state"]
    return nbformat.v4.new_notebook(cells=cells, metadata={"widgets": {WIDGETS: state}})


def build(folder, **pages):
    """Build pages, {name: widgets}, in a folder; the folder of the html."""
    book = folder / "book"
    (book / "notebooks").mkdir(parents=True)
    for part in ("_ext", "assets", "vendor", "references.bib"):
        (book / part).symlink_to(ROOT / "book" / part)
    for name, widgets in pages.items():
        nbformat.write(notebook(widgets), book / f"notebooks/{name}.ipynb")
    files = [f"notebooks/{name}" for name in pages]
    toc = {"format": "jb-book", "root": files[0]}
    toc |= {"chapters": [{"file": file} for file in files[1:]]} if files[1:] else {}
    (book / "_toc.yml").write_text(yaml.safe_dump(toc))
    (folder / "_config.yml").write_text((ROOT / "_config.yml").read_text(encoding="utf-8"))
    program = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()"]
    done = subprocess.run([*program, "build", book, "-W"], capture_output=True, text=True)
    assert not done.returncode, done.stdout + done.stderr
    return folder / "_build/html"


if __name__ == "__main__":
    from explored import LIVE, figures, live

    from relcore.view.explore.live_network import write_parts

    html = build(Path(sys.argv[1]), figures=figures().values(), live=[live()])
    write_parts(html / "_static/live", list(LIVE))
    print(html)
