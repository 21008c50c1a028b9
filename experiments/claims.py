"""The claims ledger of the second edition: its criteria, and the verdict over seeds.

`claims.yml` says, per claim and arm, which one test decides, with which limit, and what the paper's
own networks have. A seed passes if its value keeps to the limit; a verdict counts seeds
(`verdict`).
"""

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import yaml

from experiments import measures
from experiments.measures import Value
from relcore.errors import RelcoreError
from relcore.registry import runs

LEDGER = Path(__file__).with_suffix(".yml")
VERDICTS = ("reproduced", "in part", "not", "undecided", "untested")
SEEDS = 3  # fewer that learned cannot carry a verdict
# Fields of a claim and of a test, with the type that YAML gives them.
CLAIM = {field: str for field in ("id", "claim", "says", "place", "number", "because")}
CLAIM |= {"tests": dict, "shown": list, "predicted": dict}
OPTIONAL = {"all seeds", "compares", "describes", "ours"}
TEST = {"measure": str, "with": dict, "limit": list, "paper": (dict, str)}


def keeps(value: float, limit: list) -> bool:
    """Whether a value lies in [low, high]; None is no limit, NaN keeps to none."""
    low, high = limit
    return (value >= low if low is not None else value == value) and (high is None or value <= high)


def firm(found: Value, limit: list) -> bool:
    """Whether the interval lies on one side of the limit. A value without an interval is firm."""
    if found.low != found.low:
        return True
    passes = keeps(found.value, limit)
    return all(keeps(end, limit) == passes for end in (found.low, found.high))


def grade(passed: int, seeds: int) -> str:
    """reproduced: at least four in five seeds (of three, all). not: at most one in five (of three,
    none).
    """
    if 5 * passed >= 4 * seeds:
        return "reproduced"
    return "not" if 5 * passed <= seeds else "in part"


def verdict(found: Iterable[Value], limit: list, whole: bool = False) -> str:
    """The verdict of an arm from its seeds' values.

    "undecided" if the seeds whose interval straddles the limit could change the grade, or if there
    are fewer than SEEDS; "untested" if there are none. whole: one value stands for all seeds (S17).
    """
    found = list(found)
    if not found:
        return "untested"
    if len(found) < SEEDS and not whole:
        return "undecided"
    surely = sum(keeps(v.value, limit) and firm(v, limit) for v in found)
    possibly = sum(keeps(v.value, limit) or not firm(v, limit) for v in found)
    grades = {grade(passed, len(found)) for passed in range(surely, possibly + 1)}
    return grades.pop() if len(grades) == 1 else "undecided"


def over_seeds(found: list[Value], draws: int = 2000) -> Value:
    """Mean of an arm's seeds; its interval draws seeds again, and each one's value within its own.

    A hierarchical bootstrap, with a seed's value normal within its interval. n: seeds.
    """
    if not found:
        return Value(float("nan"))
    value, low, high = np.array([[v.value, v.low, v.high] for v in found]).T
    spread = np.nan_to_num(high - low) / (2 * 1.96)
    rng = np.random.default_rng(0)
    seeds = rng.integers(len(found), size=(draws, len(found)))  # [draw, seed]
    means = rng.normal(value[seeds], spread[seeds]).mean(1)
    return Value(float(value.mean()), *map(float, np.quantile(means, (0.025, 0.975))), len(found))


def judge(claim: dict, arms: dict[str, str]) -> list[dict]:
    """What the ledger finds of a claim, one entry per arm that it tests.

    Keys: arm, verdict, predicted, seeds ([{run, size, value, low, high, n, passes, firm}]), mean
    (`over_seeds`; None where one value stands for two arms). Raises RelcoreError, with the command
    that makes it, if a table is missing.
    """
    entries = []
    for arm, test in claim["tests"].items():
        measure = getattr(measures, test["measure"])
        if pair := claim.get("compares"):
            names = [list(_runs(arms[each], claim).run) for each in pair]
            found = [measure(*names, **test["with"])] if all(names) else []
            seeds, mean = [{"run": " / ".join(pair), "size": ""}] * len(found), None
        else:
            asked = _runs(arms[arm], claim)
            found = [measure(run, **test["with"]) for run in asked.run]
            seeds, mean = asked[["run", "size"]].to_dict("records"), over_seeds(found)
        limit = test["limit"]
        rows = [
            {**seed, **asdict(v), "passes": keeps(v.value, limit), "firm": firm(v, limit)}
            for seed, v in zip(seeds, found, strict=True)
        ]
        entries.append(
            {
                "arm": arm,
                "verdict": verdict(found, limit, whole="compares" in claim),
                "predicted": claim["predicted"][arm],
                "seeds": rows,
                "mean": mean,
            }
        )
    return entries


def _runs(query: str, claim: dict):
    """The runs of an arm that the claim counts: those that learned, unless it counts all seeds."""
    counted = query if claim.get("all seeds") else f"({query}) and learned"
    return runs(f"({counted}) and keeps != 'curve'")


def load(file: Path = LEDGER) -> dict:
    """{"arms": {arm: query}, "claims": [claim, ...]}; RelcoreError if a claim lacks a field or has
    an unknown one.
    """
    try:
        ledger = yaml.safe_load(file.read_text(encoding="utf-8"))
        arms, claims = ledger["arms"], ledger["claims"]
    except (OSError, yaml.YAMLError, TypeError, KeyError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise RelcoreError(
            f"'{file.name}' cannot be read ({reason}): restore it from git"
        ) from error
    for claim in claims:
        where = f"'{file.name}', claim {claim.get('id') if isinstance(claim, dict) else claim}"
        _check(claim, CLAIM, OPTIONAL, where)
        for arm, test in claim["tests"].items():
            _check(test, TEST, set(), f"{where}, {arm}")
            low, high = test["limit"] if len(test["limit"]) == 2 else (None, None)
            if arm not in arms or (low is None and high is None):
                raise RelcoreError(
                    f"{where}: '{arm}' must be one of {', '.join(arms)}, its limit [low, high]"
                )
        if unknown := {*claim["predicted"].values()} - {*VERDICTS}:
            raise RelcoreError(
                f"{where}: unknown verdict '{unknown.pop()}': choose from {', '.join(VERDICTS)}"
            )
        if claim["predicted"].keys() != claim["tests"].keys():
            raise RelcoreError(
                f"{where}: predicted must name the arms of its tests, no more and no fewer"
            )
    if len({claim["id"] for claim in claims}) < len(claims):
        raise RelcoreError(f"'{file.name}': two claims have one id")
    return ledger


def _check(entry, required: dict, optional: set, where: str) -> None:
    if not isinstance(entry, dict):
        raise RelcoreError(f"{where}: must be a mapping")
    if unknown := entry.keys() - required.keys() - optional:
        raise RelcoreError(f"{where}: unknown field '{sorted(unknown)[0]}'")
    for field, kind in required.items():
        if not isinstance(entry.get(field), kind):
            raise RelcoreError(f"{where}: no '{field}', or not of its type")
