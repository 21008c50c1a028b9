"""Other surroundings: a package that was installed without its checkout, and a locale that is not
UTF-8.
"""

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from relcore.paths import ROOT

PLAIN = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
NEEDY = [
    "models",
    "sample 'red square is above blue circle'",
    "evaluate",
    "fusion",
    "synopsis",
    "screen",
    "rewire",
    "ablate --every",
    "robustness",
    "claims",
    "notebooks",
    "bench",
]


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """A folder that holds the package and nothing of the checkout, as site-packages does."""
    folder = tmp_path_factory.mktemp("site-packages")
    shutil.copytree(
        ROOT / "relcore", folder / "relcore", ignore=shutil.ignore_patterns("__pycache__")
    )
    return folder


def run(
    *commands: str, source: Path = ROOT, cwd: Path, **environment: str
) -> list[subprocess.CompletedProcess]:
    """Commands in one new process, which imports torch once for all of them: status, stdout and
    stderr of each.
    """
    code = """
import contextlib, io, shlex, sys
from relcore import cli
for command in sys.argv[1:]:
    print("relcore:begin", flush=True), print("relcore:begin", file=sys.stderr, flush=True)
    arguments, sys.argv = sys.argv, ["relcore", *shlex.split(command)]
    try:
        status = cli.main()
    except SystemExit as end:
        status = end.code
    sys.argv = arguments
    print(f"relcore:status {status or 0}", flush=True)
"""
    environment = {**os.environ, "PYTHONPATH": str(source), **environment}
    done = subprocess.run(
        [sys.executable, "-c", code, *commands], cwd=cwd, env=environment, capture_output=True
    )
    out, err = (text.decode().split("relcore:begin\n")[1:] for text in (done.stdout, done.stderr))
    assert len(out) == len(commands), done.stderr.decode()
    parts = [text.rsplit("relcore:status ", 1) for text in out]
    return [
        subprocess.CompletedProcess(c, int(status), text, e)
        for c, (text, status), e in zip(commands, parts, err, strict=True)
    ]


def test_every_command_that_needs_what_is_shipped_says_that_it_is_not_there(installed, tmp_path):
    for done in run(*NEEDY, source=installed, cwd=tmp_path):
        (line,) = done.stderr.strip().splitlines()
        assert done.returncode == 2 and done.stdout == "" and line.startswith("relcore: "), done
        assert "RELCORE_HOME" in line and str(tmp_path) in line, done
    assert list(tmp_path.iterdir()) == []


def test_an_installed_package_works_in_a_checkout_and_with_one_that_is_named(installed, tmp_path):
    def found(cwd: Path, **environment: str) -> Path:
        command = [sys.executable, "-c", "from relcore import paths; print(paths.CHECKPOINTS)"]
        environment = {**os.environ, "PYTHONPATH": str(installed), **environment}
        return Path(
            subprocess.run(
                command, cwd=cwd, env=environment, capture_output=True, text=True
            ).stdout.strip()
        )

    checkpoints = ROOT / "checkpoints"
    assert found(ROOT / "notebooks") == found(tmp_path, RELCORE_HOME=str(ROOT)) == checkpoints
    assert (
        found(tmp_path)
        == found(ROOT / "notebooks", RELCORE_HOME=str(tmp_path))
        == tmp_path / "checkpoints"
    )


# Typer turns ASCII into UTF-8.
@pytest.mark.parametrize("encoding, square", [("ascii", "²"), ("iso-8859-5", "?")])
def test_a_locale_that_is_not_utf_8(tmp_path, encoding, square):
    first = "\n- id".join((ROOT / "claims.yml").read_text(encoding="utf-8").split("\n- id")[:2])
    (tmp_path / "ledger.yml").write_text(first.replace(" claim: ", " claim: R² "), encoding="utf-8")
    prompt = "sample 'red square is above blue café'"
    commands = "claims --ledger ledger.yml", "models", prompt
    *done, refused = run(*commands, cwd=tmp_path, **PLAIN, PYTHONIOENCODING=encoding)
    assert f"R{square} With" in done[0].stdout and [d.returncode for d in done] == [0, 0], done
    assert (
        refused.returncode == 2
        and "blue caf" in refused.stderr
        and "Traceback" not in refused.stderr
    )


def test_text_is_read_and_written_as_utf_8_everywhere():
    files = [
        file for file in ROOT.glob("relcore/**/*.py") if file.name not in ("dit.py", "diffusion.py")
    ]
    nodes = [
        (file.name, node)
        for file in files
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
    ]
    calls = [(name, node) for name, node in nodes if isinstance(node, ast.Call)]
    calls = [
        (n, node)
        for n, node in calls
        if getattr(node.func, "attr", "") in ("read_text", "write_text")
    ]
    assert calls
    for name, node in calls:  # a network's read_text, in the two files left out, is another
        assert "encoding" in [keyword.arg for keyword in node.keywords], (
            f"{name}, line {node.lineno}"
        )
