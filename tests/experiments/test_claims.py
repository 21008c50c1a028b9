"""The second edition's ledger: the paper passes it, and a verdict counts seeds."""

from math import nan

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from experiments import claims, measures
from experiments.claims import LEDGER, firm, grade, judge, keeps, load, over_seeds, verdict
from experiments.measures import Value
from relcore.errors import RelcoreError

CLAIMS = load()["claims"]
TESTS = [(claim, arm) for claim in CLAIMS for arm in claim["tests"]]
LIMITS = [[0.9, None], [None, 0.25], [0.4, 0.6]]
values = st.floats(-2, 2)


@pytest.mark.parametrize(("claim", "arm"), TESTS, ids=[f"{c['id']}-{a}" for c, a in TESTS])
def test_the_paper_passes_its_own_ledger(claim, arm):
    """Published numbers in, "reproduced" out; a test without a number says why there is none."""
    test = claim["tests"][arm]
    if isinstance(test["paper"], str):
        assert "not public" in test["paper"] or claim.get("ours"), test["paper"]
    else:
        published = [Value(value) for value in test["paper"].values()]
        assert all(keeps(v.value, test["limit"]) for v in published)
        assert verdict(published * 3, test["limit"]) == "reproduced"


def test_at_least_half_of_the_tests_have_a_published_number():
    assert (
        sum(isinstance(claim["tests"][arm]["paper"], dict) for claim, arm in TESTS) > len(TESTS) / 2
    )


@pytest.mark.parametrize(
    ("passed", "seeds", "expected"),
    [(5, 5, "reproduced"), (4, 5, "reproduced"), (3, 5, "in part"), (1, 5, "not"), (0, 5, "not")]
    + [(3, 3, "reproduced"), (2, 3, "in part"), (1, 3, "in part"), (0, 3, "not")]
    + [(7, 8, "reproduced"), (6, 8, "in part"), (1, 8, "not")],
)
def test_grades_of_seeds(passed, seeds, expected):
    assert grade(passed, seeds) == expected


@given(st.lists(st.booleans(), min_size=3, max_size=10), st.sampled_from(LIMITS))
def test_firm_seeds_are_graded_by_their_number_alone(passes, limit):
    inside = next(v for v in (0.95, 0.1, 0.5) if keeps(v, limit))
    outside = 0.7
    found = [Value(inside if p else outside) for p in passes]
    assert verdict(found, limit) == verdict(found[::-1], limit) == grade(sum(passes), len(passes))


def test_seeds_that_straddle_the_limit_leave_it_undecided_only_if_they_matter():
    sure, open_ = Value(0.95, 0.92, 0.98, 96), Value(0.91, 0.85, 0.95, 96)
    assert verdict([sure] * 4 + [open_], [0.9, None]) == "reproduced"
    assert verdict([sure] * 3 + [open_] * 2, [0.9, None]) == "undecided"


def test_too_few_seeds_and_none():
    assert verdict([Value(1.0)] * 2, [0.9, None]) == "undecided"
    assert verdict([], [0.9, None]) == "untested"
    assert verdict([Value(1.0)], [0.9, None], whole=True) == "reproduced"


@given(values, values, values, st.sampled_from(LIMITS))
def test_an_interval_is_firm_where_both_ends_agree_with_the_value(a, b, c, limit):
    low, value, high = sorted((a, b, c))
    agree = keeps(low, limit) == keeps(value, limit) == keeps(high, limit)
    assert firm(Value(value, low, high), limit) == agree


def test_a_value_that_is_not_a_number_passes_nothing():
    assert not any(keeps(nan, limit) for limit in LIMITS)


FOUND = {"a0": 0.99, "a1": 0.97, "a2": 0.95, "b0": 0.95, "b1": 0.5, "b2": 0.93}


@pytest.fixture
def asked(monkeypatch):
    """Six runs of two arms, values for a measure, and the queries that were asked."""
    queries = []

    def runs(query):
        queries.append(query)
        names = [name for name in FOUND if name[0] == query.lstrip("(")[0]]
        return pd.DataFrame({"run": names, "size": "micro"})

    monkeypatch.setattr(claims, "runs", runs)
    monkeypatch.setattr(measures, "accuracy", lambda run, **_: Value(FOUND[run], n=9))
    monkeypatch.setattr(measures, "later", lambda one, two, **_: Value(len(one) / len(two)))
    return queries


def test_a_claim_is_judged_per_arm_over_the_seeds_that_learned(asked):
    test = {"measure": "accuracy", "with": {}, "limit": [0.9, None], "paper": {}}
    claim = {"tests": {"rte": test, "e5": test}, "predicted": {"rte": "not", "e5": "not"}}
    rte, e5 = judge(claim, {"rte": "a", "e5": "b"})
    assert (rte["verdict"], e5["verdict"]) == ("reproduced", "in part")
    assert [seed["passes"] for seed in e5["seeds"]] == [True, False, True]
    assert rte["mean"].value == pytest.approx(0.97) and rte["mean"].n == 3
    assert all("learned" in query for query in asked)
    judge({**claim, "all seeds": True}, {"rte": "a", "e5": "b"})
    assert not any("learned" in query for query in asked[2:])


def test_a_claim_that_compares_two_arms_has_one_value(asked):
    test = {"measure": "later", "with": {}, "limit": [1.5, None], "paper": {}}
    claim = {"tests": {"rte": test}, "predicted": {"rte": "not"}, "compares": ["rte", "e5"]}
    (entry,) = judge(claim, {"rte": "a", "e5": "b"})
    assert entry["verdict"] == "not" and entry["mean"] is None
    assert [seed["value"] for seed in entry["seeds"]] == [1.0]
    (entry,) = judge(claim, {"rte": "a", "e5": "no such arm"})
    assert entry["verdict"] == "untested" and entry["seeds"] == []


def test_the_ledger_can_be_judged_while_no_run_of_this_edition_is_there():
    ledger = load()
    verdicts = {
        entry["verdict"]
        for claim in ledger["claims"]
        for entry in judge(claim, {arm: "run == 'none of them'" for arm in ledger["arms"]})
    }
    assert verdicts == {"untested"}


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.floats(0, 0.2))
def test_the_interval_of_an_arm_holds_its_mean_and_grows_with_that_of_its_seeds(seeds, half):
    sure = over_seeds([Value(v) for v in seeds])
    unsure = over_seeds([Value(v, v - half, v + half) for v in seeds])
    assert sure.value == pytest.approx(np.mean(seeds)) and sure.n == len(seeds)
    assert sure.low - 1e-9 <= sure.value <= sure.high + 1e-9
    assert unsure.high - unsure.low >= (sure.high - sure.low) * 0.9


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"verdict": "reproduced"}, "unknown field 'verdict'"),
        ({"says": None}, "no 'says'"),
        ({"predicted": {"rte": "surely", "contextual": "not"}}, "unknown verdict 'surely'"),
        ({"predicted": {"rte": "not"}}, "predicted must name"),
    ],
)
def test_a_malformed_ledger_is_one_clear_line(tmp_path, change, message):
    ledger = yaml.safe_load(LEDGER.read_text(encoding="utf-8"))
    ledger["claims"][0] |= change
    file = tmp_path / "claims.yml"
    file.write_text(yaml.safe_dump(ledger), encoding="utf-8")
    with pytest.raises(RelcoreError, match=message):
        load(file)
