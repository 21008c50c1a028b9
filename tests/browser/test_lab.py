"""The playground in JupyterLab, with a kernel: a form that draws."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import jupytext
import nbformat

ROOT = Path(__file__).parents[2]
FORM = ".live-only"
PICTURE = f"{FORM} img"
CONNECTED = (
    "window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel"
    "?.connectionStatus == 'connected'"
)
SOURCE = (
    "() => { const e = document.querySelector('.live-only img');"
    " return e && e.naturalWidth > 50 ? e.src : null; }"
)


@contextmanager
def lab(folder):
    """JupyterLab on a free port, with settings of its own; its address."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    options = [
        "--no-browser",
        "--allow-root",
        "--ip=127.0.0.1",
        f"--port={port}",
        "--IdentityProvider.token=",
        "--LabApp.expose_app_in_browser=True",
        f"--ServerApp.root_dir={folder}",
    ]
    environment = os.environ | {"HOME": str(folder), "OMP_NUM_THREADS": "1"}
    server = subprocess.Popen(
        [sys.executable, "-m", "jupyterlab", *options],
        cwd=folder,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        address, start = f"http://127.0.0.1:{port}", time.monotonic()
        while True:
            try:
                urllib.request.urlopen(f"{address}/api", timeout=5).close()
                break
            except OSError:
                assert server.poll() is None and time.monotonic() - start < 120, (
                    "JupyterLab does not start"
                )
                time.sleep(0.5)
        yield address
    finally:
        server.terminate()
        server.wait(30)


def run_all(page, address, notebook, shown=SOURCE):
    """Open a notebook, run its cells, and wait until the form shows a picture; the picture."""
    page.goto(f"{address}/lab/tree/{notebook}")
    # What is run before that is dropped without a word.
    page.wait_for_function(CONNECTED, timeout=120_000)
    page.evaluate("void window.jupyterapp.commands.execute('notebook:run-all-cells')")
    return page.wait_for_function(shown, timeout=600_000).json_value()


def change(page, label, value):
    """Fill one field of the form, and wait for the kernel."""
    field = page.locator(f"{FORM} .widget-inline-hbox", has_text=label).locator("input").first
    field.fill(value)
    field.press("Enter")


def test_the_form_draws(browser, tmp_path):
    notebook = jupytext.read(ROOT / "notebooks/playground.py")
    # What the page shows without a kernel takes a minute to draw.
    static = ("controls.grid(", "pd.DataFrame(rows)")
    notebook.cells = [
        cell for cell in notebook.cells if not any(part in cell.source for part in static)
    ]
    nbformat.write(notebook, tmp_path / "playground.ipynb")
    with lab(tmp_path) as address:
        page = browser.new_page(viewport={"width": 1280, "height": 1400})
        first = run_all(page, address, "playground.ipynb")
        change(page, "noise seed", "5")
        page.wait_for_function(f"old => ({SOURCE})() != old", arg=first, timeout=120_000)
        second = page.evaluate(SOURCE)
        change(page, "prompt", "red square is purple")
        page.wait_for_selector(f"{FORM} :text('no spatial relation')", timeout=60_000)
        assert page.evaluate(SOURCE) == second, (
            "a prompt that cannot be read leaves the last picture"
        )
        page.close()


EXPLORED = """
import relcore as rc
from relcore.view import explore
explore.network([rc.load("rte-micro")])
"""


def test_an_explorable_figure_asks_the_kernel(browser, tmp_path):
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(EXPLORED)], metadata=kernel
    )
    nbformat.write(notebook, tmp_path / "figure.ipynb")
    words = """() => [...document.querySelectorAll('.explorable.with-kernel .word text')]
        .map(e => e.textContent).join(' ')"""
    with lab(tmp_path) as address:
        page = browser.new_page(viewport={"width": 1280, "height": 1400})
        assert run_all(page, address, "figure.ipynb", words).endswith("end")
        prompt = page.locator(".explorable input[type=text]").first
        prompt.fill("blue square is purple")
        page.locator(".explorable form button").click()
        page.wait_for_selector(".explorable .says:has-text('no spatial relation')")
        prompt.fill("blue square is below red circle")
        page.locator(".explorable form button").click()
        page.wait_for_function(f"({words})() == 'blue square is below red circle end'")
        page.close()
