"""Evaluation: reproducible, and the same whatever the batch."""

import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from relcore.data.encoders import RandomTokenEncoder
from relcore.data.prompts import parse, suite
from relcore.data.scenes import RELATIONS, Scenes, render, sample_scenes
from relcore.data.scoring import METRICS
from relcore.errors import RelcoreError
from relcore.model import evaluation
from relcore.model.evaluation import (
    commit,
    evaluate,
    ground_truth,
    reached,
    report,
    resumable,
    write_table,
)

PROMPTS = suite()[::16]
ONE_LEVEL = 1  # as in test_diffusion.py


@pytest.fixture
def pictures(monkeypatch) -> list[np.ndarray]:
    """The pictures that `evaluate` scores, in order."""
    seen, detect = [], evaluation.detect
    monkeypatch.setattr(evaluation, "detect", lambda image: seen.append(image) or detect(image))
    return seen


@pytest.fixture
def painter(monkeypatch):
    """A model that draws each prompt rightly with an even seed and turns it upside down with an odd
    one.
    """

    def draw(model, encoder, texts, seeds, **sampling):
        scenes = [parse(text) for text in texts]
        places = sample_scenes(
            len(texts), np.random.default_rng(0), relations=np.array([p.relation for p in scenes])
        )
        images = render(
            Scenes(
                np.array([p.colors for p in scenes]),
                np.array([p.shapes for p in scenes]),
                places.centers,
                places.relations,
            )
        )
        return torch.from_numpy(
            np.stack([i[::-1] if s % 2 else i for i, s in zip(images, seeds, strict=True)])
        )

    monkeypatch.setattr(evaluation, "sample", draw)


def test_every_prompt_is_drawn_with_every_seed_once(painter):
    rows = evaluate(None, RandomTokenEncoder(), PROMPTS, range(3), batch=4)
    assert rows.groupby("prompt").size().to_dict() == dict.fromkeys(PROMPTS, 3)
    assert rows.seed.is_unique
    assert (rows.relation == [RELATIONS[parse(p).relation] for p in rows.prompt]).all()


def test_verdicts_are_those_of_the_picture(painter):
    rows = evaluate(
        None, RandomTokenEncoder(), ["red square is above blue circle"], range(4), batch=3
    )
    assert rows.seed.tolist() == [0, 1, 2, 3] and rows.binding.all()
    assert rows.relation_strict.tolist() == [True, False, True, False]
    assert (np.sign(rows.dy) == [-1, 1, -1, 1]).all()


def test_evaluation_repeats_itself_and_does_not_depend_on_the_batch(tiny, pictures):
    encoder = RandomTokenEncoder()
    tables = [
        evaluate(tiny, encoder, PROMPTS, range(2), batch=batch, steps=4) for batch in (4, 4, 5)
    ]
    first, second, third = (np.stack(pictures[i * 12 : (i + 1) * 12]).astype(int) for i in range(3))
    assert (first == second).all() and abs(first - third).max() <= ONE_LEVEL
    pd.testing.assert_frame_equal(tables[0], tables[1])
    pd.testing.assert_frame_equal(tables[0][["prompt", "seed"]], tables[2][["prompt", "seed"]])


def test_report_has_every_relation_and_the_ceiling(painter):
    out = report(evaluate(None, RandomTokenEncoder(), suite(), [0], batch=96))
    assert set(out["by_relation"]) == set(RELATIONS)
    assert {m: out["metrics"][m]["n"] for m in METRICS} == dict.fromkeys(METRICS, 96)
    assert all(out["metrics"][m]["ceiling"] == 1.0 for m in METRICS)
    assert sum(v["color"]["n"] for v in out["by_relation"].values()) == 96
    assert all(np.isfinite(v) for v in out["displacement"].values())


def test_truth_table_repeats_itself():
    pd.testing.assert_frame_equal(ground_truth(50, "paper"), ground_truth(50, "paper"))


def curve(run: str, values: list[float], arm: str = "rte") -> pd.DataFrame:
    """A training curve with one accuracy, evaluated every 10 pictures and 60 seconds."""
    return pd.DataFrame(
        {
            "run": run,
            "encoder": arm,
            "suite": "canonical",
            "metric": "binding",
            "value": values,
            "samples": [10 * (i + 1) for i in range(len(values))],
            "seconds": [60.0 * (i + 1) for i in range(len(values))],
            "low": [v - 0.1 for v in values],
            "high": [v + 0.1 for v in values],
        }
    )


def test_a_level_is_reached_at_the_first_evaluation_that_has_it():
    out = reached(pd.concat([curve("a", [0.4, 0.6, 0.3, 0.97]), curve("b", [0.1, 0.2])])).set_index(
        ["run", "level"]
    )
    assert out.loc[("a", 0.5), ["samples", "minutes"]].tolist() == [20, 2]
    assert out.loc[("a", 0.95), ["samples", "minutes"]].tolist() == [40, 4]
    assert out.loc["b", ["samples", "minutes"]].isna().all(axis=None)


class Lacking(RandomTokenEncoder):
    """An encoder that cannot encode one prompt."""

    def encode(self, prompts):
        if PROMPTS[-1] in prompts:
            raise RelcoreError("not in the table")
        return super().encode(prompts)


def test_a_prompt_that_cannot_be_encoded_is_found_before_any_is_drawn():
    with pytest.raises(RelcoreError, match="not in the table"):
        evaluate(
            None,
            Lacking(),
            PROMPTS,
            [0],
            batch=1,
            draw=lambda *_, **__: pytest.fail("a picture was drawn"),
        )


# --- where a table came from


@pytest.fixture
def checkout(tmp_path, monkeypatch) -> Path:
    """A checkout whose code `commit` judges."""
    folder = tmp_path / "checkout"
    for name in (
        "relcore/a.py",
        "notebooks/fig.py",
        "notebooks/fig.ipynb",
        "results/a.parquet",
        "README.md",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("old")
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for arguments in (["init", "-q"], ["add", "."], [*identity, "commit", "-q", "-m", "first"]):
        subprocess.run(["git", *arguments], cwd=folder, check=True)
    monkeypatch.setattr(evaluation, "SOURCE", folder)
    return folder


@pytest.mark.parametrize(
    "name, dirty",
    [
        ("results/a.parquet", False),
        ("results/new.parquet", False),
        ("notebooks/fig.ipynb", False),
        ("README.md", False),
        ("relcore/a.py", True),
        ("relcore/new.py", True),
        ("notebooks/fig.py", True),
        ("pyproject.toml", True),
    ],
)
def test_a_commit_is_dirty_if_the_code_differs_from_it(checkout, name, dirty):
    clean = commit()
    assert clean != "unknown" and not clean.endswith("-dirty")
    (checkout / name).write_text("new")
    assert commit() == (f"{clean}-dirty" if dirty else clean)


def test_an_installed_package_does_not_take_the_commit_of_the_repository_around_it(
    checkout, monkeypatch
):
    (checkout / "site-packages" / "relcore").mkdir(parents=True)
    monkeypatch.setattr(evaluation, "SOURCE", checkout / "site-packages")
    assert commit() == "unknown"


def test_every_run_of_a_table_has_its_own_command_and_commit(tmp_path, monkeypatch):
    def run() -> pd.DataFrame:
        return pd.DataFrame({"value": [1.0]})

    file = tmp_path / "table.parquet"
    for name, number in (("a", "1"), ("b", "2"), ("a", "3")):
        monkeypatch.setattr(evaluation, "commit", lambda number=number: f"commit {number}")
        resumable({name: run}, file, {"checkpoint": "x"}, command=f"command {number}")
    attrs = pd.read_parquet(file).attrs
    assert attrs["runs"] == {
        name: {"command": f"command {number}", "commit": f"commit {number}"}
        for name, number in (("a", "1"), ("b", "2"))
    }
    assert attrs["settings"] == {"checkpoint": "x"}


def test_runs_added_to_an_older_table_leave_what_it_says_of_the_others(tmp_path):
    file, old = tmp_path / "table.parquet", {"settings": {}, "command": "old", "commit": "first"}
    table = pd.DataFrame({"value": [1.0], "run": ["a"]})
    table.attrs = old
    table.to_parquet(file)
    resumable({"b": lambda: pd.DataFrame({"value": [2.0]})}, file, {}, command="new")
    attrs = pd.read_parquet(file).attrs
    assert {key: attrs[key] for key in old} == old and attrs["runs"].keys() == {"b"}


def test_a_table_that_cannot_be_written_is_refused_before_its_first_run(tmp_path):
    (tmp_path / "table.parquet").mkdir()
    with pytest.raises(RelcoreError, match="table.parquet"):
        resumable({"a": lambda: pytest.fail("a run was made")}, tmp_path / "table.parquet", {})


def test_a_table_of_one_run_says_what_made_it(tmp_path, checkout):
    write_table(
        tmp_path / "t.parquet",
        pd.DataFrame({"a": [1]}),
        command="relcore x",
        checkpoint="c",
        seed=3,
    )
    attrs = pd.read_parquet(tmp_path / "t.parquet").attrs
    assert attrs == {"command": "relcore x", "checkpoint": "c", "seed": 3, "commit": commit()}
