"""Runs: declared once in runs.yaml, and asked as a table."""

import pytest

from relcore.errors import RelcoreError
from relcore.model.checkpoints import manifest, shipped
from relcore.model.recipe import TrainConfig
from relcore.registry import declared, recipe, runs


def test_every_released_run_is_declared_with_what_it_keeps():
    weights = {name for name, fields in declared().items() if fields["keeps"] == "weights"}
    tables = {name for name, fields in declared().items() if fields["keeps"] == "tables"}
    assert weights == shipped().keys() and weights | tables == manifest().keys()


@pytest.mark.parametrize("name", manifest())
def test_a_line_says_what_the_manifest_recorded(name):
    entry, config = manifest()[name], recipe(name)
    for field in ("preset", "encoder", "seed", "samples"):
        assert getattr(config, field) == entry[field]
    measured = entry["metrics"]["phrases"]["relation_loose"]["value"]
    assert declared()[name]["expected"] == pytest.approx(measured, abs=0.005)


def test_queries():
    learned = runs("encoder == 'rte' and learned")
    assert set(learned.encoder) == {"rte"} and (learned.loose >= 0.9).all()
    assert len(runs()) == len(declared())
    with pytest.raises(RelcoreError, match="columns are run, size"):
        runs("colour == 1")


def write(path, line):
    path.write_text(f"mine: {line}\n", encoding="utf-8")
    return path


def test_one_line_is_a_run(tmp_path):
    file = write(tmp_path / "runs.yaml", "{encoder: rte, size: nano, seed: 3, samples: 640}")
    assert declared(file)["mine"]["keeps"] == "weights"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{encoder: rte, size: nano}", "no seed"),
        ("{encoder: rte, size: nano, seed: 3, colour: red}", "no 'colour'"),
        ("{encoder: rte, size: nano, seed: 3, keeps: all}", "weights, tables, curve"),
        ("rte", "cannot be read"),
    ],
)
def test_a_wrong_line_is_named(tmp_path, line, message):
    with pytest.raises(RelcoreError, match=message):
        declared(write(tmp_path / "runs.yaml", line))


def test_an_unknown_run():
    with pytest.raises(RelcoreError, match="add a line for it"):
        recipe("rte-macro")


def test_a_recipe_without_differences_is_the_default():
    assert recipe("rte-micro") == TrainConfig(preset="micro", encoder="rte", seed=0)
