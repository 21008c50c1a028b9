"""The Makefile sets up an environment, keeps it while it can be used, and makes it anew when it can
not.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

MAKE = shutil.which("make")
pytestmark = pytest.mark.skipif(not MAKE, reason="needs make")
# A Python that makes environments of itself, and notes what it is told to install.
PYTHON = """#!/bin/bash
case "$*" in
  "-m venv .venv") mkdir -p .venv/bin && cp "$0" .venv/bin/python && touch .venv/pip ;;
  *"import pip"*) test -e .venv/pip && echo NAME ;;
  "-c "*) echo NAME ;;
  "-m pip "*) test -e .venv/pip && echo NAME >> installs ;;
  "-m compileall "*) echo compiled >> installs ;;
esac
"""


@pytest.fixture
def folder(tmp_path):
    """A checkout with nothing but the Makefile and what it installs by."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    shutil.copy(Path(__file__).parents[2] / "Makefile", folder)
    for name in ("pyproject.toml", "constraints.txt"):
        (folder / name).touch()
    return folder


@pytest.fixture
def pythons(tmp_path):
    """pythons(*names): just these can be found, beside the usual tools."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in ("bash", "cat", "cp", "find", "mkdir", "rm", "touch"):
        (tools / tool).symlink_to(shutil.which(tool))

    def found(*names):
        for name in names:
            (tools / name).write_text(PYTHON.replace("NAME", name))
            (tools / name).chmod(0o755)

    return found


def install(folder, *arguments):
    """`make install`: its end, and what was installed with which Python."""
    (folder / "installs").unlink(missing_ok=True)
    environment = {"PATH": str(folder.parent / "bin")} | {
        k: v for k, v in os.environ.items() if k == "HOME"
    }
    done = subprocess.run(
        [MAKE, "install", *arguments], cwd=folder, env=environment, capture_output=True, text=True
    )
    installs = folder / "installs"
    return done, installs.read_text().split() if installs.exists() else []


def test_an_environment_is_made_once(folder, pythons):
    pythons("python3.11")
    assert install(folder)[1] == ["python3.11", "python3.11", "compiled"]
    assert install(folder)[1] == []
    os.utime(folder / "pyproject.toml", (4e9, 4e9))
    (folder / ".venv" / "kept").touch()
    # Other versions: the same environment.
    assert install(folder)[1] and (folder / ".venv" / "kept").exists()


@pytest.mark.parametrize(
    "names",
    [
        ("python3.11", "python3.12", "python3.14"),
        ("python3.12", "python3.13"),
        ("python3.13", "python3.14"),
        ("python3.14",),
    ],
    ids=" ".join,
)
def test_the_first_tested_python_is_taken(folder, pythons, names):
    pythons(*names)
    assert install(folder)[1][0] == names[0]


def without_pip(folder):
    (folder / ".venv" / "pip").unlink()
    return folder


def without_python(folder):
    (folder / ".venv" / "bin" / "python").unlink()
    (folder / ".venv" / "bin" / "python").symlink_to("/nowhere/python")
    return folder


def renamed(folder):
    return folder.rename(folder.with_name("renamed"))


def half_made(folder):
    shutil.rmtree(folder / ".venv" / "bin")
    return folder


@pytest.mark.parametrize("spoil", [without_pip, without_python, renamed, half_made])
def test_an_environment_that_cannot_be_used_is_made_anew(folder, pythons, spoil):
    pythons("python3.11")
    install(folder)
    (folder / ".venv" / "old").touch()
    folder = spoil(folder)
    done, installs = install(folder)
    assert done.returncode == 0 and installs[0] == "python3.11", done.stderr
    assert not (folder / ".venv" / "old").exists()
    assert install(folder)[1] == []


def test_another_python_is_heeded_when_asked_for_and_kept_when_not(folder, pythons):
    pythons("python3.11", "python3.13")
    install(folder, "PYTHON=python3.13")
    assert install(folder)[1] == install(folder, "PYTHON=python3.13")[1] == []
    assert install(folder, "PYTHON=python3.11")[1][0] == "python3.11"
    assert install(folder)[1] == []


@pytest.mark.parametrize(
    "arguments, named", [((), "found none. Install"), (["PYTHON=nowhere"], "none in nowhere.")]
)
def test_without_a_python_the_line_says_what_to_do_and_nothing_is_removed(
    folder, pythons, arguments, named
):
    (folder / ".venv").mkdir()
    pythons()
    done, _ = install(folder, *arguments)
    assert done.returncode and named in done.stderr and "make PYTHON=" in done.stderr
    assert (folder / ".venv").exists()
