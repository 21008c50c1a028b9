"""Robustness: suites are drawn as asked, more seeds are added to a table, drops are against the training template."""

import numpy as np
import pandas as pd
import pytest
from networks import stirred

from relcore.data.encoders import make_encoder
from relcore.data.prompts import PHRASES, suite
from relcore.errors import RelcoreError
from relcore.kernels.robustness import SUITES, drops, robustness
from relcore.model import evaluation

FEW = {"above": PHRASES["above"][:1], "left": PHRASES["left"][:1]}  # 24 prompts
STEPS = {"steps": 1, "guidance": 1.0}


@pytest.fixture(scope="module")
def model():
    return stirred(0.05)


@pytest.fixture(scope="module")
def encoder():
    return make_encoder("rte")


def test_every_suite_draws_its_own_prompts(model, encoder):
    table = robustness(model, encoder, [0], SUITES, phrases=FEW, **STEPS)
    for name, rows in table.groupby("suite"):
        assert sorted(rows.prompt) == sorted(suite(FEW, name)), name
    assert set(table.suite) == set(SUITES)


def test_seeds_are_added_to_a_table_without_drawing_the_others_again(model, encoder, tmp_path, monkeypatch):
    file, two = tmp_path / "table.parquet", ("train", "is-the")
    whole = robustness(model, encoder, [0, 1], two, phrases=FEW, **STEPS)
    robustness(model, encoder, [0], two, phrases=FEW, file=file, settings={"checkpoint": "a"}, **STEPS)
    ran, real = [], evaluation.sample
    monkeypatch.setattr(evaluation, "sample", lambda *a, **kw: ran.append(len(a[2])) or real(*a, **kw))
    grown = robustness(model, encoder, [0, 1], two, phrases=FEW, file=file, settings={"checkpoint": "a"}, **STEPS)
    assert sum(ran) == 2 * 24
    pd.testing.assert_frame_equal(grown, whole)
    with pytest.raises(RelcoreError, match="another checkpoint"):
        robustness(model, encoder, [0], two, phrases=FEW, file=file, settings={"checkpoint": "b"}, **STEPS)


def made(name, relation, hits, dx):
    hits = np.array(hits, bool)
    same = {m: hits for m in ("color", "shape", "binding", "relation_strict", "relation_loose")}
    return pd.DataFrame({"suite": name, "relation": relation, "dx": dx, "dy": 0.0, **same})


def test_a_drop_is_against_the_same_relations_of_the_training_template():
    table = pd.concat([
        made("train", "above", [1, 1, 1, 1], 0.0), made("train", "upper left", [0, 0, 0, 0], 8.0),
        made("relation-synonyms", "above", [1, 1, 0, 0], [2.0, 4.0, np.nan, np.nan]),
    ])  # fmt: skip
    found = drops(table).set_index(["suite", "metric"])
    loose, dx = found.loc[("relation-synonyms", "relation_loose")], found.loc[("relation-synonyms", "dx")]
    assert (loose.value, loose.change, loose.n) == (0.5, -0.5, 4)
    assert loose.change - loose.change_low == pytest.approx(1.96 * np.std([1, 1, 0, 0], ddof=1) / 2)
    assert (dx.value, dx.change, dx.n) == (3.0, 3.0, 2)  # pictures without a bound pair have no displacement
    assert found.loc[("train", "relation_loose")].change == 0
