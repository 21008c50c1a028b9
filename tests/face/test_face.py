"""The face: a model opened once, drawing as the functions beneath it do."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

import relcore as rc
from relcore.kernels.interventions import ablate, drawn_with
from relcore.model.diffusion import fast_precision, sample

PROMPT = "red square is above blue circle"


@pytest.fixture(scope="module")
def model():
    return rc.load("rte-nano")


def test_every_name_of_the_face_is_there():
    assert {*rc.__all__} <= {*dir(rc)} and all(getattr(rc, name) for name in rc.__all__)
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        _ = rc.lode


def test_importing_the_face_loads_nothing_heavy():
    code = (
        "import relcore, sys; print({'torch', 'pandas', 'accelerate'} & {*sys.modules} or 'none')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "none"


def test_drawing_is_sampling(model):
    expected = sample(
        model.network,
        model.encoder,
        [PROMPT] * 2,
        [3, 4],
        process=model.process,
        precision=fast_precision(),
        steps=3,
    ).numpy()
    assert np.array_equal(model.draw(PROMPT, [3, 4], steps=3), expected)
    assert np.array_equal(model.draw([PROMPT] * 2, 3, steps=3)[1], expected[0])


def test_an_intervention_is_drawn_with(model):
    heads = [model.head("L1H0"), model.head("L2H1")]
    expected = drawn_with(ablate(heads))(
        model.network,
        model.encoder,
        [PROMPT],
        [0],
        process=model.process,
        precision=fast_precision(),
        steps=3,
    ).numpy()
    drawn = model.draw(PROMPT, intervention=model.ablate("L1H0", "L2H1", method="zero"), steps=3)
    assert np.array_equal(drawn, expected)
    assert not np.array_equal(drawn, model.draw(PROMPT, steps=3))


def test_change_is_paired(model):
    before = model.evaluate([PROMPT], range(4), steps=2)
    table = rc.change(before, before)
    assert (table.before == table.after).all() and (
        table[["change", "low", "high"]] == 0
    ).all().all()
    better = before.assign(**{metric: True for metric in table.index})
    assert np.allclose(rc.change(before, better).change, 1 - table.before)


def test_captures_through_the_model(model):
    with model.capture(["blocks.0.cross_attn.pattern"]) as cache:
        model.draw(PROMPT, steps=2)
    assert len(cache) == 2 and isinstance(rc.runs(), pd.DataFrame)
