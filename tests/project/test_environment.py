"""The files that describe the environment agree with each other."""

import json
import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
LINES = [
    x for x in (ROOT / "constraints.txt").read_text().splitlines() if x and not x.startswith("#")
]
PINS = {canonicalize_name(r.name): r for r in map(Requirement, LINES)}


@pytest.mark.parametrize(
    "line",
    [line for extra in ("book", "test", "pipeline", "page") for line in EXTRAS[extra]]
    + PROJECT["dependencies"],
)
def test_constraints_name_a_version_that_the_project_accepts(line):
    wanted = Requirement(line)
    pin = PINS[canonicalize_name(wanted.name)]
    # An exact version would shut out the CPU build, whose version has a local part.
    if wanted.name == "torch":
        bounds = {s.operator: s.version for s in pin.specifier}
        assert bounds.keys() == {">=", "<"} and wanted.specifier.contains(bounds[">="])
    else:
        (exact,) = pin.specifier
        assert exact.operator == "==" and wanted.specifier.contains(exact.version)


def test_newer_versions_of_python_and_torch_are_not_refused():
    (torch,) = [line for line in PROJECT["dependencies"] if line.startswith("torch")]
    for line in (torch, "python" + PROJECT["requires-python"]):
        assert [s.operator for s in Requirement(line).specifier] == [">="], line


def test_make_looks_for_pythons_that_the_project_accepts():
    tried = re.findall(
        r"\bpython(3\.\d+)", (ROOT / "Makefile").read_text().split("PYTHON ?=")[1].splitlines()[0]
    )
    accepted = Requirement("python" + PROJECT["requires-python"]).specifier
    assert tried[0] == "3.11" and "3.14" in tried and all(map(accepted.contains, tried))


def test_constraints_come_from_a_public_index():
    for name, pin in PINS.items():
        assert pin.url is None, name
        assert not any(Version(s.version).local for s in pin.specifier), f"{name}: a local build"
    assert not [n for n in PINS if n.startswith("nvidia") or n == "relcore"]


def test_conda_environment_is_the_project():
    env = yaml.safe_load((ROOT / "environment.yml").read_text())
    (pip,) = [d["pip"] for d in env["dependencies"] if isinstance(d, dict)]
    extras = re.search(r'-e "(\.\[.*?\])"', (ROOT / "Makefile").read_text())[1]
    assert pip == [f"-e {extras}"]  # as `make` installs it
    assert f'-e "{extras}" -c constraints.txt' in (ROOT / "README.md").read_text(encoding="utf-8")
    (python,) = [d for d in env["dependencies"] if isinstance(d, str) and d.startswith("python=")]
    assert Requirement("python" + PROJECT["requires-python"]).specifier.contains(
        python.split("=")[1]
    )


def test_script_lock_names_no_server():
    lock = json.loads((ROOT / "book/package-lock.json").read_text())
    wanted = json.loads((ROOT / "book/package.json").read_text())["dependencies"]
    for name, version in wanted.items():
        assert (
            re.fullmatch(r"[\d.]+", version)
            and lock["packages"][f"node_modules/{name}"]["version"] == version
        )
    for path, package in lock["packages"].items():
        assert "resolved" not in package, (
            f"{path}: npm config set omit-lockfile-registry-resolved true"
        )
        assert not path or package["integrity"].startswith("sha512-"), path


def test_citation_is_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == PROJECT["version"] and "2601.06338" in str(citation["references"])
