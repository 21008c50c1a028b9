"""Release: a run becomes a shipped model, its tables and its curve."""

import json
from pathlib import Path

import pandas as pd
import pytest
import torch

from relcore.errors import RelcoreError
from relcore.files import read_tensors, sha256, write_tensors
from relcore.model import release, training
from relcore.model.checkpoints import load_model, manifest
from relcore.model.recipe import TrainConfig
from relcore.model.training import Run

PHRASES = {"above": ("above",)}


@pytest.fixture
def run(tmp_path, monkeypatch, tiny_preset):
    monkeypatch.setattr(
        training,
        "evaluation_suites",
        lambda captions: {"canonical": ["red square is above blue circle"]},
    )
    monkeypatch.setattr(release, "SUITES", {"canonical": (PHRASES, 2)})
    Run(TrainConfig(preset=tiny_preset, samples=8, batch=8), tmp_path / "run").train(progress=False)
    return tmp_path / "run"


def test_a_released_model_is_its_average_in_bf16_with_its_tables(run, tmp_path):
    entry = release.release(
        run, "model", tmp_path / "checkpoints", tmp_path / "results", note="a test"
    )
    assert manifest(tmp_path / "checkpoints") == {"model": entry}
    model, header = load_model("model", tmp_path / "checkpoints")
    average, _ = read_tensors(run / "model.safetensors")
    assert all(
        torch.equal(value, average[name].bfloat16().float())
        for name, value in model.state_dict().items()
    )
    assert header["metrics"] == entry["metrics"] and header["provenance"]["note"] == "a test"
    table = pd.read_parquet(tmp_path / "results" / "evaluations" / "model-canonical.parquet")
    assert len(table) == 2 * table.prompt.nunique() == entry["metrics"]["canonical"]["shape"]["n"]
    assert table.attrs["checkpoint"] == sha256(tmp_path / "checkpoints" / "model.safetensors")
    assert (
        json.loads((tmp_path / "results" / "training" / "model" / "config.json").read_text())
        == header["recipe"]
    )


def test_a_broken_average_is_not_released(run, tmp_path):
    weights, header = read_tensors(run / "model.safetensors")
    weights["unembed.bias"][0] = torch.nan
    write_tensors(run / "model.safetensors", weights, header)
    with pytest.raises(RelcoreError, match="NaN.*'unembed.bias'"):
        release.release(run, "model", tmp_path / "checkpoints", tmp_path / "results")
    assert not (tmp_path / "checkpoints").exists() and not (tmp_path / "results").exists()


def test_a_published_curve_takes_the_place_of_an_older_one_whole(run, tmp_path):
    old = tmp_path / "training" / "model" / "frames" / "000999999.png"
    old.parent.mkdir(parents=True)
    old.touch()
    release.publish_curve(run, "model", tmp_path)
    assert {p.name for p in old.parent.iterdir()} == {p.name for p in (run / "frames").iterdir()}
    with pytest.raises(RelcoreError, match="cannot copy the run.*nosuch"):
        release.publish_curve(tmp_path / "nosuch", "model", tmp_path)
    assert [p.name for p in (tmp_path / "training").iterdir()] == ["model"] and not old.exists()


def test_of_a_run_that_keeps_its_curve_alone_the_curve_is_released(run, relcore, monkeypatch):
    kept = []
    monkeypatch.setattr(release, "publish_curve", lambda *given: kept.append(given))
    monkeypatch.setattr(release, "release", lambda *_, **__: pytest.fail("a model was released"))
    assert relcore("release", run, "adamw").returncode == 0 and kept == [(run, "adamw")]


@pytest.mark.parametrize(
    "taken",
    [
        "checkpoints/model.safetensors",
        "results/evaluations/model-canonical.parquet",
        "results/training/model/config.json",
        "checkpoints/MANIFEST.json",
    ],
)
def test_a_place_that_cannot_be_written_is_refused_before_the_evaluation(
    run, tmp_path, monkeypatch, taken
):
    (tmp_path / taken / "in the way").mkdir(parents=True)
    monkeypatch.setattr(release, "evaluate", lambda *_, **__: pytest.fail("pictures were drawn"))
    with pytest.raises(RelcoreError, match=taken):
        release.release(run, "model", tmp_path / "checkpoints", tmp_path / "results")


@pytest.mark.parametrize("missing", ["config.json", "metrics.parquet", "frames"])
def test_a_folder_that_is_no_run_is_refused_before_the_evaluation(
    run, tmp_path, monkeypatch, missing
):
    (run / missing).rename(run / "elsewhere")
    monkeypatch.setattr(release, "evaluate", lambda *_, **__: pytest.fail("pictures were drawn"))
    with pytest.raises(RelcoreError, match="name the folder of") as error:
        release.release(run, "model", tmp_path / "checkpoints", tmp_path / "results")
    assert missing in str(error.value) and "--resume" not in str(error.value)


def test_metrics_are_said_though_nothing_can_be_written(run, tmp_path, monkeypatch, capsys):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(RelcoreError, match="No space left"):
        release.release(run, "model", tmp_path / "checkpoints", tmp_path / "results")
    assert "model canonical: color" in capsys.readouterr().err
