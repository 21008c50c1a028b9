"""Evaluation: reproducible, and the same whatever the batch."""

import numpy as np
import pandas as pd
import pytest
import torch

from relcore.data.encoders import RandomTokenEncoder
from relcore.data.prompts import parse, suite
from relcore.data.scenes import RELATIONS, Scenes, render, sample_scenes
from relcore.data.scoring import METRICS
from relcore.model import evaluation
from relcore.model.evaluation import evaluate, ground_truth, reached, report

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
    """A model that draws each prompt rightly with an even seed and turns it upside down with an odd one."""

    def draw(model, encoder, texts, seeds, **sampling):
        scenes = [parse(text) for text in texts]
        places = sample_scenes(len(texts), np.random.default_rng(0), relations=np.array([p.relation for p in scenes]))
        images = render(Scenes(np.array([p.colors for p in scenes]), np.array([p.shapes for p in scenes]),
                               places.centers, places.relations))  # fmt: skip
        return torch.from_numpy(np.stack([i[::-1] if s % 2 else i for i, s in zip(images, seeds, strict=True)]))

    monkeypatch.setattr(evaluation, "sample", draw)


def test_every_prompt_is_drawn_with_every_seed_once(painter):
    rows = evaluate(None, None, PROMPTS, range(3), batch=4)
    assert rows.groupby("prompt").size().to_dict() == dict.fromkeys(PROMPTS, 3)
    assert rows.seed.is_unique
    assert (rows.relation == [RELATIONS[parse(p).relation] for p in rows.prompt]).all()


def test_verdicts_are_those_of_the_picture(painter):
    rows = evaluate(None, None, ["red square is above blue circle"], range(4), batch=3)
    assert rows.seed.tolist() == [0, 1, 2, 3] and rows.binding.all()
    assert rows.relation_strict.tolist() == [True, False, True, False]
    assert (np.sign(rows.dy) == [-1, 1, -1, 1]).all()


def test_evaluation_repeats_itself_and_does_not_depend_on_the_batch(tiny, pictures):
    encoder = RandomTokenEncoder()
    tables = [evaluate(tiny, encoder, PROMPTS, range(2), batch=batch, steps=4) for batch in (4, 4, 5)]
    first, second, third = (np.stack(pictures[i * 12 : (i + 1) * 12]).astype(int) for i in range(3))
    assert (first == second).all() and abs(first - third).max() <= ONE_LEVEL
    pd.testing.assert_frame_equal(tables[0], tables[1])
    pd.testing.assert_frame_equal(tables[0][["prompt", "seed"]], tables[2][["prompt", "seed"]])


def test_report_has_every_relation_and_the_ceiling(painter):
    out = report(evaluate(None, None, suite(), [0], batch=96))
    assert set(out["by_relation"]) == set(RELATIONS)
    assert {m: out["metrics"][m]["n"] for m in METRICS} == dict.fromkeys(METRICS, 96)
    assert all(out["metrics"][m]["ceiling"] == 1.0 for m in METRICS)
    assert sum(v["color"]["n"] for v in out["by_relation"].values()) == 96
    assert all(np.isfinite(v) for v in out["displacement"].values())


def test_truth_table_repeats_itself():
    pd.testing.assert_frame_equal(ground_truth(50, "paper"), ground_truth(50, "paper"))


def curve(run: str, values: list[float], arm: str = "rte") -> pd.DataFrame:
    """A training curve with one accuracy, evaluated every 10 pictures and 60 seconds."""
    return pd.DataFrame({
        "run": run, "encoder": arm, "suite": "canonical", "metric": "binding", "value": values,
        "samples": [10 * (i + 1) for i in range(len(values))], "seconds": [60.0 * (i + 1) for i in range(len(values))],
        "low": [v - 0.1 for v in values], "high": [v + 0.1 for v in values],
    })  # fmt: skip


def test_a_level_is_reached_at_the_first_evaluation_that_has_it():
    out = reached(pd.concat([curve("a", [0.4, 0.6, 0.3, 0.97]), curve("b", [0.1, 0.2])])).set_index(["run", "level"])
    assert out.loc[("a", 0.5), ["samples", "minutes"]].tolist() == [20, 2]
    assert out.loc[("a", 0.95), ["samples", "minutes"]].tolist() == [40, 4]
    assert out.loc["b", ["samples", "minutes"]].isna().all(axis=None)
