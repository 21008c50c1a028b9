"""The pipeline: dvc.yaml is what is generated, and DVC finds stale what is, and no more.

The tests that ask DVC work in a copy of the checkout, and are skipped where it is not installed.
"""

import importlib.util
import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from relcore import experiment, pipeline
from relcore.experiment import experiments
from relcore.model.checkpoints import manifest
from relcore.paths import RESULTS, ROOT
from relcore.registry import declared, runs

QUICKEST, RUN = "words", "rte-mini"  # draws no picture
STAGE = f"{QUICKEST}@{RUN}"


def names() -> set[str]:
    return set(pipeline.names(yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]))


def locked() -> set[str]:
    return set(yaml.safe_load((ROOT / "dvc.lock").read_text())["stages"])


# --- what is declared


def test_the_files_are_what_is_generated(tmp_path):
    shutil.copy(ROOT / "dvc.lock", tmp_path)
    pipeline.write(tmp_path)
    for name in ("dvc.yaml", "dvc.lock"):
        assert (tmp_path / name).read_text() == (ROOT / name).read_text(), "run relcore pipeline"


def test_a_stage_that_is_no_more_leaves_the_lock(tmp_path):
    held = yaml.safe_load((ROOT / "dvc.lock").read_text())
    held["stages"]["gone@rte-micro"] = {"cmd": "relcore run gone --run rte-micro"}
    (tmp_path / "dvc.lock").write_text(yaml.safe_dump(held))
    pipeline.write(tmp_path)
    assert yaml.safe_load((tmp_path / "dvc.lock").read_text())["stages"].keys() == locked()


def test_every_experiment_on_each_of_its_runs_every_run_and_every_chapter_is_a_stage():
    wanted = {f"{e.name}@{run}" for e in experiments().values() for run in runs(e.runs).run}
    wanted |= {f"train-{name}" for name in declared()}
    wanted |= {f"chapter-{file.stem}" for file in (ROOT / "notebooks").glob("*.py")}
    assert names() == wanted


def made(name: str, run: str) -> bool:
    """Whether the table of a stage is there: by that experiment, with the run's weights."""
    file = RESULTS / name / f"{run}.parquet"
    settings = pd.read_parquet(file).attrs.get("settings", {}) if file.exists() else {}
    wanted = {"experiment": name, "checkpoint": manifest().get(run, {}).get("sha256")}
    return settings.items() >= wanted.items()


def test_the_lock_holds_the_stages_that_have_results_and_no_others():
    tables = {stage for stage in names() if "@" in stage and made(*stage.split("@"))}
    assert {stage for stage in locked() if "@" in stage} == tables


@pytest.mark.parametrize("keeps", ["weights", "tables", "curve"])
def test_a_training_depends_on_its_recipe_alone_and_makes_what_the_run_keeps(keeps):
    told = {"expected": 0.9, "note": "as it was"}
    fields = {"encoder": "e5", "size": "nano", "seed": 1, "samples": 640, "keeps": keeps, **told}
    stage = pipeline._training("mine", fields)
    names = {f"mine.{field}" for field in ("encoder", "size", "seed", "samples")}
    assert {*stage["params"][0]["runs.yaml"]} == names and stage["deps"] == [
        "tables/e5.safetensors"
    ]
    outs = {out for entry in stage["outs"] for out in entry}
    assert "results/training/mine" in outs
    assert ("results/evaluations/mine-phrases.parquet" in outs) == (keeps != "curve")
    assert ("checkpoints/mine.safetensors" in outs) == (keeps == "weights")


FORMS = [
    "import relcore.kernels.used",
    "from relcore.kernels.used import thing",
    "from relcore.kernels import used as other",
    "def late():\n    from relcore.kernels import used",
    "from experiments import between",
    "from relcore.view import figures",
]


@pytest.mark.parametrize("line", FORMS)
def test_imports_are_followed_in_every_form(line, tmp_path, monkeypatch):
    files = {
        "experiments/mine.py": f"from relcore.face import Model\n{line}\n",
        "experiments/between.py": "import relcore.kernels.used\nimport experiments.mine\n",
        "relcore/kernels/used.py": "from .deep import thing\nfrom ..data import prompts\n",
        "relcore/kernels/deep.py": "from .used import thing\n",
        "relcore/kernels/unused.py": "",
        "relcore/view/figures.py": "from ..kernels import used\n",
        "relcore/data/prompts.py": "",
        "relcore/face.py": "from .kernels import unused\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(pipeline, "ROOT", tmp_path)
    found = {
        str(file.relative_to(tmp_path))
        for file in pipeline.sources(tmp_path / "experiments" / "mine.py")
    }
    expected = {"experiments/mine.py", "relcore/kernels/used.py", "relcore/kernels/deep.py"}
    expected |= {f"{kind}/{n}.py" for kind, n in (("experiments", "between"),) if n in line}
    expected |= {"relcore/view/figures.py"} if "figures" in line else set()
    assert found == expected


def test_the_ledger_comes_with_its_criteria():
    found = pipeline.sources(ROOT / "experiments" / "claims.py")
    assert ROOT / "experiments" / "measures.py" in found
    assert (ROOT / "experiments" / "claims.yml").exists() == (
        ROOT / "experiments" / "claims.yml" in found
    )


# --- a table made anew


@pytest.fixture
def table(tmp_path):
    """The table of the quickest stage, made here and now."""
    experiment.run(QUICKEST, RUN, out=(file := tmp_path / "table.parquet"), progress=False)
    return file


def changed(file: Path, change) -> None:
    held = pd.read_parquet(file)
    rows = change(held.copy())
    rows.attrs = held.attrs
    rows.to_parquet(file)


def test_a_table_as_this_code_makes_it_passes(table, relcore):
    before = table.read_bytes()
    done = relcore("run", QUICKEST, "--run", RUN, "--out", table, "--check", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["runs"][0]["equal"]
    assert table.read_bytes() == before


def bit(rows):
    """The table with the last bit of one number changed."""
    rows.loc[3, "cosine"] = np.nextafter(rows.cosine[3], rows.cosine.dtype.type(2))
    return rows


@pytest.mark.parametrize("change", [bit, lambda rows: rows.iloc[1:]], ids=["a bit", "a row"])
def test_a_table_with_other_rows_does_not(table, relcore, change):
    changed(table, change)
    done = relcore("run", QUICKEST, "--run", RUN, "--out", table, "--check")
    assert done.returncode == 2 and "its rows are others" in done.stderr


def test_a_table_of_other_weights_or_none_does_not(table, relcore):
    done = relcore("run", QUICKEST, "--run", "rte-micro", "--out", table, "--check")
    assert done.returncode == 2 and "another checkpoint" in done.stderr
    done = relcore("run", QUICKEST, "--run", RUN, "--out", table.with_name("no.parquet"), "--check")
    assert done.returncode == 2 and f"relcore run {QUICKEST} --run {RUN}" in done.stderr


# --- what DVC says


class Copy:
    """The checkout's files, as git has or would have them, with DVC asked in a process of its own.

    whole: every stage recorded as made, with an empty table where there is none.
    """

    def __init__(self, folder: Path, whole: bool):
        self.folder = folder
        listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
        files = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        for name in files.strip("\0").split("\0"):
            if (ROOT / name).is_file() and not name.startswith("book/"):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(ROOT / name, folder / name)
        subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
        if whole:
            for stage in names() - locked():
                if "@" in stage:
                    file = folder / "results" / "{}/{}.parquet".format(*stage.split("@"))
                    file.parent.mkdir(exist_ok=True)
                    file.touch()
            self.dvc("commit", "-f", "-q")

    def dvc(self, *arguments: str) -> str:
        own = {
            "PYTHONPATH": str(self.folder),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "DVC_SITE_CACHE_DIR": str(self.folder.with_name(f"{self.folder.name}-cache")),
            "DVC_NO_ANALYTICS": "1",
        }
        done = subprocess.run(
            [sys.executable, "-m", "dvc", *arguments],
            cwd=self.folder,
            env=os.environ | own,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def stale(self) -> set[str]:
        return set(json.loads(self.dvc("status", "--json")))


def copied(tmp_path_factory, whole: bool) -> Copy:
    if not importlib.util.find_spec("dvc") or not (ROOT / ".git").exists():
        pytest.skip("needs DVC (pip install 'relcore[pipeline]') and a git checkout")
    return Copy(tmp_path_factory.mktemp("copy"), whole)


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    return copied(tmp_path_factory, whole=False)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return copied(tmp_path_factory, whole=True)


def test_after_a_clone_what_has_results_is_up_to_date_and_soon_told(clone):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert clone.stale() == names() - locked()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 10


def using(*sources: str) -> set[str]:
    """The stages of which one of these files is a dependency."""
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    return set(
        pipeline.names({n: s for n, s in stages.items() if {*s.get("deps", ())} & {*sources}})
    )


def tables(*experiments_: str) -> set[str]:
    return {stage for stage in names() if stage.split("@")[0] in experiments_ and "@" in stage}


def test_a_whole_pipeline_is_up_to_date_where_weights_are_not(whole):
    assert whole.stale() == set()
    assert {run for run in runs("keeps == 'tables'").run if f"evaluation@{run}" in names()}
    assert not (whole.folder / "checkpoints" / "rte-micro-s1.safetensors").exists()


def edited(whole: Copy, name: str, change) -> set[str]:
    """What is stale with a file changed; it is put back."""
    file = whole.folder / name
    before = file.read_text()
    try:
        assert (text := change(before)) != before
        file.write_text(text)
        return whole.stale()
    finally:
        file.write_text(before)


def comment(text: str) -> str:
    return text + "# one more line\n"


def other_weights(text: str) -> str:
    held = json.loads(text)
    held[RUN]["sha256"] = "0" * 64
    return json.dumps(held)


def chapters() -> set[str]:
    return {stage for stage in names() if stage.startswith("chapter-")}


@pytest.mark.parametrize(
    ("file", "change", "expected"),
    [
        ("experiments/masks.py", comment, lambda: tables("masks")),
        ("experiments/words.py", comment, lambda: tables("words")),
        (
            "experiments/shared.py",
            comment,
            lambda: (
                tables("evaluation", "masks", "relation_head", "rewiring", "robustness", "tags")
                | (using("experiments/shared.py") & chapters())
            ),
        ),
        (
            "relcore/kernels/geometry.py",
            comment,
            lambda: tables("tags", "words") | (using("relcore/kernels/geometry.py") & chapters()),
        ),
        ("relcore/cli.py", comment, set),
        ("checkpoints/MANIFEST.json", other_weights, lambda: of(RUN) | chapters()),
        ("runs.yaml", lambda text: text.replace("expected: 0.98", "expected: 0.97"), chapters),
        (
            "runs.yaml",
            lambda text: text.replace("rte, size: mini, seed: 0", "rte, size: mini, seed: 5"),
            lambda: {f"train-{RUN}"} | chapters(),
        ),
    ],
    ids=["experiment", "quickest", "shared", "kernel", "package", "weights", "expected", "seed"],
)
def test_a_change_makes_stale_what_it_concerns_and_nothing_else(whole, file, change, expected):
    assert edited(whole, file, change) == expected()


def of(run: str) -> set[str]:
    return {stage for stage in names() if stage.endswith(f"@{run}")}


def test_a_stage_made_again_gives_the_same_bits(clone, table):
    file = clone.folder / "results" / QUICKEST / f"{RUN}.parquet"
    stored = pd.read_parquet(file)
    file.unlink()
    assert STAGE in clone.stale()
    clone.dvc("repro", "--single-item", STAGE)
    pd.testing.assert_frame_equal(pd.read_parquet(file), pd.read_parquet(table), check_exact=True)
    # Another machine may have made the one in the repository.
    pd.testing.assert_frame_equal(pd.read_parquet(file), stored, rtol=1e-4, atol=1e-5)
    assert STAGE not in clone.stale()
