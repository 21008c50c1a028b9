"""The framework: parts are made once, an interrupted table goes on, a missing one is named."""

from functools import partial

import pandas as pd
import pytest

from relcore import experiment as framework
from relcore.data.encoders import ENCODERS
from relcore.errors import RelcoreError
from relcore.experiment import QUICK, Experiment, experiment, experiments, results, run
from relcore.registry import runs

MADE = []


def numbers(name, prompts, seeds):
    MADE.append(name)
    if name == "broken":
        raise KeyboardInterrupt
    return pd.DataFrame({"prompt": prompts, "seed": seeds[0], "value": len(name)})


def declare(monkeypatch, *names):
    """An experiment "probe" with parts of these names, the only one there is."""

    @experiment(runs="learned and size == 'mini'", minutes=1, seeds=3)
    def probe(model, prompts, seeds):
        """What the parts are called."""
        for name in names:
            yield name, partial(numbers, name, prompts, seeds)

    monkeypatch.setattr(framework, "experiments", lambda: {"probe": probe})
    MADE.clear()
    return probe


def test_a_declared_function_is_an_experiment(monkeypatch):
    probe = declare(monkeypatch, "one")
    assert isinstance(probe, Experiment)
    assert (probe.name, probe.about, probe.seeds) == ("probe", "What the parts are called.", 3)


def test_parts_are_made_once_and_an_interrupted_table_goes_on(stage, monkeypatch):
    declare(monkeypatch, "one", "broken", "three")
    with pytest.raises(KeyboardInterrupt):
        run("probe", "rte-mini", progress=False)
    declare(monkeypatch, "one", "three")
    table = run("probe", "rte-mini", progress=False)
    assert MADE == ["three"] and list(table.part.unique()) == ["one", "three"]
    run("probe", "rte-mini", progress=False)
    assert MADE == ["three"]
    assert len(pd.read_parquet(stage / "probe" / "rte-mini.parquet")) == 2 * 96


def test_a_quick_run_asks_less_and_writes_nothing(stage, monkeypatch):
    declare(monkeypatch, "one")
    table = run("probe", "rte-mini", quick=True, progress=False)
    assert len(table) == QUICK and not list(stage.iterdir())


def test_other_weights_are_not_mixed_into_a_table(stage, monkeypatch):
    declare(monkeypatch, "one")
    run("probe", "rte-mini", progress=False)
    monkeypatch.setattr(framework, "digest", lambda name: "1" * 64)
    with pytest.raises(RelcoreError, match="another checkpoint"):
        run("probe", "rte-mini", progress=False)


def test_results_of_all_runs_in_one_and_a_missing_one_is_named(stage, monkeypatch):
    declare(monkeypatch, "one")
    names = list(runs("learned and size == 'mini'").run)
    assert len(names) > 1
    for name in names[1:]:
        run("probe", name, progress=False)
    with pytest.raises(RelcoreError, match=f"relcore run probe --run {names[0]}"):
        results("probe")
    run("probe", names[0], progress=False)
    table = results("probe")
    assert list(table.run.unique()) == names and set(table.columns) >= {"encoder", "size", "part"}
    assert set(results("probe", f"run == '{names[0]}'").run) == {names[0]}
    with pytest.raises(RelcoreError, match="no run fits"):
        results("probe", "encoder == 'clip'")


def test_an_unknown_experiment_is_named():
    with pytest.raises(RelcoreError, match="unknown experiment 'guess': choose from .*masks"):
        run("guess", "rte-mini")


@pytest.mark.parametrize("name", experiments())
def test_every_experiment_says_what_it_is_and_whom_it_is_for(name):
    chosen = experiments()[name]
    assert chosen.name == name and chosen.about.endswith(".") and chosen.minutes > 0
    runs(chosen.runs)  # a query that can be asked


@pytest.mark.parametrize("name", experiments())
def test_the_parts_of_an_experiment_are_tables_of_one_schema(name, model, contextual, shown):
    """The first and the last part, of two prompts."""
    chosen = experiments()[name]
    model = contextual if not {*runs(chosen.runs).encoder} & {*ENCODERS} else model
    if chosen.seeds:
        parts = dict(chosen.parts(model, chosen.prompts()[:2], [0]))
    else:
        parts = dict(chosen.parts(model))
    assert parts, "no parts"
    tables = [parts[key]() for key in (next(iter(parts)), list(parts)[-1])]
    assert all(len(table) for table in tables)
    assert set(tables[0].columns) == set(tables[1].columns)
