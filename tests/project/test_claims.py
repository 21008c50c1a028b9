"""The claims ledger is complete and leads somewhere, its verdicts are what comes out, and its
measures count right.
"""

import copy
import json
import re

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from relcore import claims, measures
from relcore.data.scoring import METRICS, wilson
from relcore.errors import RelcoreError
from relcore.model.checkpoints import manifest
from relcore.paths import NOTEBOOKS, RESULTS
from relcore.view.claims import VERDICTS, html, wanted

LEDGER = claims.load()
each_claim = pytest.mark.parametrize("claim", LEDGER, ids=lambda claim: claim["id"])


# --- the ledger as it stands


def test_the_ledger_has_the_claims_that_were_to_be_checked():
    assert {f"S{k}" for k in range(1, 17)} <= {claim["id"] for claim in LEDGER}
    assert {claim["verdict"] for claim in LEDGER} <= set(VERDICTS)


@each_claim
def test_a_claim_leads_to_its_figure_and_names_what_is_there(claim):
    source = (NOTEBOOKS / f"{claim['chapter']}.py").read_text()
    if "figure" in claim:
        assert f'"name": "{claim["figure"]}"' in source
    assert claim["command"].startswith("relcore ")
    assert claim["tests"] or claim["verdict"] == "untested"
    shipped = set(manifest()) | {folder.name for folder in (RESULTS / "training").iterdir()}
    for test in claim["tests"]:
        assert {name for group in test["models"] for name in group.split()} <= shipped
        assert set(test) <= {"what", "measure", "with", "models", "reproduced", "partly"}


@each_claim
def test_what_counts_as_reproduced_counts_as_partly_too(claim):
    for test in claim["tests"]:
        if "partly" in test:
            (low, high), (outer_low, outer_high) = test["reproduced"], test["partly"]
            assert outer_low is None or low is not None and outer_low <= low
            assert outer_high is None or high is not None and high <= outer_high


@each_claim
def test_the_recorded_verdict_is_what_comes_out(claim):
    judged = claims.judge(claim)
    assert judged["computed"] == claim["verdict"], [
        (c["what"], c["model"], c["value"]) for c in judged["checks"]
    ]
    assert all(
        np.isnan(c["low"]) or c["low"] <= c["value"] + 1e-9 and c["value"] <= c["high"] + 1e-9
        for c in judged["checks"]
    )
    assert (
        json.loads(json.dumps(claims.record(judged), allow_nan=False))["verdict"]
        == claim["verdict"]
    )


# --- the command


@pytest.fixture
def written(tmp_path):
    """written(change): a ledger of S3 alone, changed by a function of the claim, as a file."""

    def write(change=lambda claim: None):
        claim = copy.deepcopy(next(c for c in LEDGER if c["id"] == "S3"))
        change(claim)
        file = tmp_path / "ledger.yml"
        file.write_text(yaml.safe_dump({"claims": [claim]}))
        return file

    return write


def test_json_has_the_fixed_fields(relcore, written):
    done = relcore("claims", "--ledger", written(), "--json")
    assert done.returncode == 0, done.stderr
    (claim,) = json.loads(done.stdout)["claims"]
    fixed = {"id", "claim", "paper", "value", "low", "high", "n", "seeds", "models", "verdict"}
    assert fixed <= claim.keys() and claim["low"] <= claim["value"] <= claim["high"]
    assert claim["models"] == ["rte-nopos-micro", "rte-nopos-micro-s1", "rte-nopos-micro-s2"]
    assert claim["seeds"] == [0, 1, 2]


def test_a_flipped_verdict_fails_and_is_named(relcore, written):
    done = relcore("claims", "--ledger", written(lambda claim: claim.update(verdict="reproduced")))
    assert done.returncode == 1 and "S3 is now 'partly'" in done.stderr and "ledger" in done.stderr
    assert "S3" in done.stdout


def missing_table(claim):
    claim["tests"][0]["with"]["table"] = "evaluations/nosuch"


def number_for_a_model(claim):
    claim["tests"][0] |= {
        "measure": "lag",
        "with": {"first": "color", "then": "shape", "level": 0.5},
        "models": [5],
    }


BAD = {
    "missing table": (missing_table, "nosuch.parquet"),
    "missing column": (lambda claim: claim["tests"][0]["with"].update(column="nosuch"), "nosuch"),
    "unknown measure": (lambda claim: claim["tests"][0].update(measure="nosuch"), "nosuch"),
    "unknown argument": (lambda claim: claim["tests"][0]["with"].update(nosuch=1), "nosuch"),
    "unknown model": (lambda claim: claim["tests"][0].update(models=["nosuch"]), "nosuch"),
    "model of another kind": (number_for_a_model, "AttributeError"),
    "tests that are no list": (lambda claim: claim.update(tests=5), "no list of measures"),
    "tests that say nothing": (lambda claim: claim.update(tests=["share"]), "no list of measures"),
    "measure of another kind": (
        lambda claim: claim["tests"][0].update(measure=["share"]),
        "unknown measure",
    ),
    "models that are no list": (
        lambda claim: claim["tests"][0].update(models="rte-micro"),
        "models",
    ),
    "no range": (lambda claim: claim["tests"][0].update(reproduced=0.5), "range"),
    "no paper": (lambda claim: claim.pop("says"), "says"),
    "unknown verdict": (lambda claim: claim.update(verdict="true"), "true"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_clear_error(written, case):
    change, named = BAD[case]
    with pytest.raises(RelcoreError, match=named):
        [claims.judge(claim) for claim in claims.load(written(change))]


def test_bad_input_ends_with_one_line_and_status_2(relcore, written, tmp_path):
    (tmp_path / "broken.yml").write_text("claims: [")
    (tmp_path / "other.yml").write_text("claims: 5")
    for arguments, named in (
        (["--ledger", written(missing_table)], "nosuch.parquet"),
        (["--ledger", tmp_path / "broken.yml"], "broken.yml"),
        (["--ledger", tmp_path / "other.yml"], "no list of claims"),
        (["--ledger", tmp_path / "absent.yml"], "absent.yml"),
        (["--only", "S99"], "S99"),
    ):
        done = relcore("claims", *arguments)
        assert done.returncode == 2 and done.stdout == "", done.stderr
        (line,) = done.stderr.strip().splitlines()
        assert line.startswith("relcore: ") and named in line


# --- verdicts and pages


@given(st.floats(-2, 2) | st.just(float("nan")))
def test_grades_go_by_the_ranges(value):
    test = {"reproduced": [0.5, 1.0], "partly": [0.0, None]}
    grade = claims.grade(value, test)
    assert grade == (
        "reproduced" if 0.5 <= value <= 1 else "partly" if value >= 0 else "not reproduced"
    )
    assert wanted(test) == "0.5 to 1 (partly: at least 0)"
    assert claims.grade(value, {"reproduced": [None, -1]}) == (
        "reproduced" if value <= -1 else "not reproduced"
    )


@pytest.mark.parametrize(
    "values, verdict",
    [
        ((1, 1, 1), "reproduced"),
        ((1, 0, 1), "partly"),
        ((0, 0, 1), "not reproduced"),
        ((0.6, 0, 0), "partly"),
    ],
)
def test_the_first_test_decides_what_is_not_reproduced(monkeypatch, values, verdict):
    found = iter(values)
    monkeypatch.setitem(
        measures.MEASURES, "given", lambda model, folder: (next(found), np.nan, np.nan, 1)
    )
    test = {"what": "it", "measure": "given", "reproduced": [0.9, None], "partly": [0.5, None]}
    claim = {
        "id": "S0",
        "command": "",
        "tests": [test | {"models": ["a", "b"]}, test | {"models": ["c"]}],
    }
    assert claims.judge(claim)["computed"] == verdict


def test_the_page_escapes_what_people_wrote_and_links_to_the_figure():
    text = '<script>alert("1")</script>'
    claim = dict.fromkeys(("id", "claim", "says", "place", "number", "note", "command"), text)
    claim |= {"chapter": "fig1_dataset", "figure": "fig-scenes", "computed": "partly"}
    check = {
        "what": text,
        "model": text,
        "value": 0.5,
        "low": np.nan,
        "high": np.nan,
        "n": 1,
        "wanted": "",
        "verdict": "",
    }
    for brief in (False, True):
        page = html([claim | {"checks": [check]}], brief)
        assert "<script" not in page and 'href="fig1_dataset.html#fig-scenes"' in page
        assert len(re.findall(r"<details>", page)) == (not brief)


# --- measures on tables with known answers


def pictures(hits, **columns):
    """A table of pictures in the relation "above", True or False in every metric; columns are put
    in their place.
    """
    n = len(hits)
    table = pd.DataFrame({metric: list(hits) for metric in METRICS} | {"seed": range(n)})
    told = {
        "binding": True,
        "relation": "above",
        "prompt": "red square is above blue circle",
        "dx": 0.0,
        "dy": -40.0,
    }
    return table.assign(**told | columns)


@pytest.fixture
def folder(tmp_path):
    """folder(name, table): the table stored under that name; returns the folder of all. A name is
    to be used once.
    """

    def store(name, table):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        table.to_parquet(tmp_path / f"{name}.parquet")
        return tmp_path

    return store


def test_share_counts_and_takes_conditions(folder):
    where = folder(
        "t/net",
        pictures([True] * 6 + [False] * 4).assign(
            shape=[True] * 8 + [False] * 2, kind=list("aab") * 3 + ["b"]
        ),
    )
    arguments = {"table": "t/{model}", "column": "relation_loose"}
    assert measures.share("net", where, **arguments) == (0.6, *wilson(6, 10), 10)
    assert measures.share("net", where, given="shape", **arguments) == (0.75, *wilson(6, 8), 8)
    assert measures.share("net", where, where={"kind": ["a"]}, **arguments)[3] == 6
    with pytest.raises(RelcoreError, match="no rows"):
        measures.share("net", where, where={"kind": "c"}, **arguments)


def test_chance_of_pictures_in_one_relation_is_their_share(folder):
    where = folder("t/net", pictures([True] * 8))
    assert (
        measures.share("net", where, table="t/net", column="relation_loose", less_chance=True)[0]
        == 0
    )


@given(st.integers(1, 40), st.integers(1, 40))
def test_ratio_has_its_value_inside_the_interval(tmp_path_factory, few, many):
    where = tmp_path_factory.mktemp("tables")
    for name, hits in (("few", few), ("many", many)):
        pictures([True] * hits + [False] * (40 - hits)).to_parquet(where / f"{name}.parquet")
    value, low, high, n = measures.ratio("few", where, table="{model}", column="color", to="many")
    assert (
        value == pytest.approx(few / many)
        and low <= value + 1e-9
        and value <= high + 1e-9
        and n == 40
    )


def test_change_is_paired(folder):
    before, after = pictures([True, True, False, True]), pictures([True, False, True, False])
    where = folder(
        "t/net", pd.concat([before.assign(intervention="none"), after.assign(intervention="L0H0")])
    )
    value, low, high, n = measures.change(
        "net", where, table="t/{model}", run="L0H0", metric="shape"
    )
    assert value == -0.25 and low < value < high and n == 4


def test_shows_judges_by_the_relation_put_in(folder):
    below = pictures(
        [False] * 4, dx=[0, 20, 0, 0], dy=[40, 40, -40, 40], binding=[True, True, True, False]
    )
    where = folder("t/net", below.assign(words="shape2"))
    assert measures.shows("net", where, table="t/{model}")[0] == 0.5
    assert measures.shows("net", where, table="t/{model}", strict=True)[0] == 0.25
    where = folder("t/told", below.assign(target=["above", "below", "below", "below"]))
    value, *_, n = measures.shows("told", where, table="t/{model}", differ=["relation", "target"])
    assert value == pytest.approx(1 / 3) and n == 3


def test_reworded_takes_the_worst_suite(folder):
    parts = {"train": [True] * 4, "is-the": [True] * 3 + [False], "no-is": [False] * 4}
    table = pd.concat(
        [pictures(hits, dx=10.0 * k, suite=name) for k, (name, hits) in enumerate(parts.items())]
    )
    where = folder("robustness/net", table)
    assert (
        measures.reworded("net", where, suites=["is-the", "no-is"], metrics=["shape", "color"])[0]
        == -1
    )
    assert measures.reworded("net", where, suites=["is-the"], metrics=["shape"])[0] == -0.25
    assert measures.reworded("net", where, suites=["is-the", "no-is"], metrics=["dx", "dy"])[
        :1
    ] == (40,)
    with pytest.raises(RelcoreError, match="reversed"):
        measures.reworded("net", where, suites=["reversed"], metrics=["shape"])


def test_entry_picks_by_rank_and_divides(folder):
    table = {
        "step": [0, 0, 9],
        "value": [0.2, 0.8, 0.4],
        "low": [0.1, 0.7, 0.3],
        "high": [0.3, 0.9, 0.5],
        "n": 7,
        "gap": [5, 1, 2],
    }
    where = folder("t/net", pd.DataFrame(table))
    arguments = {"table": "t/{model}"}
    assert measures.entry("net", where, **arguments) == (0.8, 0.7, 0.9, 7)
    assert measures.entry("net", where, rank=2, **arguments)[0] == 0.4
    assert measures.entry("net", where, by="gap", **arguments)[0] == 0.2
    value, low, high, _ = measures.entry(
        "net", where, where={"step": 9}, over={"step": 0}, **arguments
    )
    assert value == 0.5 and low == pytest.approx(0.3 / 0.9) and high == pytest.approx(0.5 / 0.7)


def test_times_of_learning_leave_out_runs_that_never_get_there(folder):
    def run(name, color, relation):
        rows = [
            (k * 1000, 0.0, "canonical", m, v, 96)
            for m, values in (("color", color), ("relation_loose", relation))
            for k, v in enumerate(values)
        ]
        columns = ["samples", "seconds", "suite", "metric", "value", "n"]
        where = folder(f"training/{name}/metrics", pd.DataFrame(rows, columns=columns))
        (where / "training" / name / "config.json").write_text(
            '{"encoder": "rte", "preset": "micro", "seed": 0}'
        )
        return where

    run("fast", [0, 1, 1, 1, 1], [0, 0, 1, 1, 1])
    run("slow", [0, 1, 1, 1, 1], [0, 0, 0, 0, 1])
    where = run("never", [0, 1, 1, 1, 1], [0, 0, 0, 0, 0])
    pair = {"first": "color", "then": "relation_loose", "level": 0.75}
    assert measures.lag("fast slow never", where, **pair) == (2, 1, 3, 2)
    assert np.isnan(measures.lag("never", where, **pair)[0])
    rest = {"metric": "relation_loose", "level": 0.75}
    assert measures.later("slow never", where, than="fast", **rest) == (2, 2, 2, 1)
    assert measures.later("fast", where, than="fast slow never", **rest) == (2 / 3, 1 / 2, 1, 1)
