"""Code as the formatter leaves it: sizes are counted on it, so nothing is packed by hand."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted(ROOT.glob("*/**/*.py"))


@pytest.mark.parametrize("command", [["check"], ["format", "--check"]], ids=" ".join)
def test_ruff_has_nothing_to_say(command):
    done = subprocess.run(
        [sys.executable, "-m", "ruff", *command, "--no-cache", "."],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_nothing_is_kept_from_the_formatter():
    marks = ("# fmt: " + "skip", "# fmt: " + "off")
    ours = [s for s in SOURCES if s.relative_to(ROOT).parts[0] not in (".venv", "_build", "runs")]
    assert not [str(s) for s in ours if any(mark in s.read_text("utf-8") for mark in marks)]
