"""The claims ledger: what the paper says, what is measured here, and whether the two agree.

`claims.yml` holds the claims. A claim has tests; a test names a measure (of `measures`), its
arguments, the models it is taken of, and the ranges of values that would count as the paper's
(`reproduced`) or as part of the way (`partly`). One model's value is a check. A check goes by its
value; the interval says how firmly. A claim is

- reproduced if every check of every test is;
- not reproduced if no check of the first test, the one its sentence turns on, is even partly so;
- partly reproduced in all other cases;
- untested if it has no tests.
"""

import math
from functools import cache
from pathlib import Path

import yaml

from .errors import RelcoreError
from .measures import MEASURES
from .model.checkpoints import manifest
from .paths import RESULTS, ROOT
from .view.claims import VERDICTS, html, wanted

LEDGER = ROOT / "claims.yml"
FIELDS = ("id", "claim", "says", "place", "number", "chapter", "command", "verdict", "note")


def load(file: Path = LEDGER) -> list[dict]:
    """The claims as written; RelcoreError if the file is malformed, or a claim lacks a field or
    names no measure.
    """
    try:
        claims = yaml.safe_load(file.read_text(encoding="utf-8"))["claims"]
    except (OSError, yaml.YAMLError, TypeError, KeyError, UnicodeDecodeError) as error:
        raise RelcoreError(
            f"'{file.name}' cannot be read ({' '.join(str(error).split())})"
        ) from error
    if not isinstance(claims, list):
        raise RelcoreError(f"'{file.name}' holds no list of claims")
    for claim in claims:
        name = claim.get("id") if isinstance(claim, dict) else claim
        if lacking := [
            f for f in FIELDS if not isinstance(claim, dict) or not isinstance(claim.get(f), str)
        ]:
            raise RelcoreError(f"'{file.name}': claim {name} has no text for '{lacking[0]}'")
        if claim["verdict"] not in VERDICTS:
            raise RelcoreError(
                f"'{file.name}': claim {name} has the verdict '{claim['verdict']}': "
                f"choose from {', '.join(VERDICTS)}"
            )
        tests = claim.setdefault("tests", [])
        if not (isinstance(tests, list) and all(isinstance(test, dict) for test in tests)):
            raise RelcoreError(
                f"'{file.name}': claim {name}: its tests are no list of measures with their ranges"
            )
        for test in tests:
            if str(test.get("measure")) not in MEASURES:
                raise RelcoreError(
                    f"'{file.name}': claim {name} names an unknown measure "
                    f"'{test.get('measure')}': "
                    f"choose from {', '.join(MEASURES)}"
                )
            if not (
                test.get("what")
                and test.get("models")
                and isinstance(test["models"], list)
                and _is_range(test.get("reproduced"))
                and _is_range(test.get("partly", [None, None]))
            ):
                raise RelcoreError(
                    f"'{file.name}': claim {name}: a test needs what, models and a range [low, "
                    "high] for reproduced (null: no limit)"
                )
    if len({claim["id"] for claim in claims}) < len(claims):
        raise RelcoreError(f"'{file.name}': two claims have one id")
    return claims


def _is_range(pair) -> bool:
    return (
        isinstance(pair, list)
        and len(pair) == 2
        and all(x is None or isinstance(x, (int, float)) for x in pair)
    )


def grade(value: float, test: dict) -> str:
    """reproduced, partly or not reproduced: the first whose range holds the value. NaN lies in
    none.
    """
    for verdict in VERDICTS[:2]:
        low, high = test.get(verdict) or (math.inf, -math.inf)
        if (-math.inf if low is None else low) <= value <= (math.inf if high is None else high):
            return verdict
    return "not reproduced"


def judge(claim: dict) -> dict:
    """The claim with `checks` and `computed`, its verdict.

    A check: what, model, value, low, high, n, wanted (the range, in words), verdict. RelcoreError
        if a measure fails.
    """
    checks = []
    for number, test in enumerate(claim["tests"]):
        for model in test["models"]:
            try:
                found = MEASURES[test["measure"]](model, RESULTS, **test.get("with", {}))
            except (
                RelcoreError,
                AttributeError,
                KeyError,
                TypeError,
                ValueError,
                IndexError,
            ) as error:
                reason = error if isinstance(error, RelcoreError) else repr(error)
                raise RelcoreError(
                    f"claim {claim['id']}, '{test['what']}', {model}: {reason}: restore its tables "
                    f"from git, or make them again with: {claim['command']}"
                ) from error
            value, low, high, n = (*(float(x) for x in found[:3]), int(found[3]))
            checks.append(
                {
                    "test": number,
                    "what": test["what"],
                    "model": model,
                    "value": value,
                    "low": low,
                    "high": high,
                    "n": n,
                    "wanted": wanted(test),
                    "verdict": grade(value, test),
                }
            )
    grades = {check["verdict"] for check in checks}
    if not checks:
        computed = "untested"
    elif grades == {"reproduced"}:
        computed = "reproduced"
    else:
        lost = all(check["verdict"] == "not reproduced" for check in checks if check["test"] == 0)
        computed = "not reproduced" if lost else "partly"
    return {**claim, "checks": checks, "computed": computed}


@cache
def ledger() -> list[dict]:
    """Every claim of the project, judged."""
    return [judge(claim) for claim in load()]


def record(claim: dict) -> dict:
    """A judged claim as `relcore claims --json` has it: the first check's numbers stand for it, NaN
    is null.
    """
    names = sorted(
        {name for test in claim["tests"] for group in test["models"] for name in group.split()}
    )
    checks = [
        {key: None if value != value else value for key, value in check.items()}
        for check in claim["checks"]
    ]
    first = checks[0] if checks else {}
    seeds = sorted({entry["seed"] for name, entry in manifest().items() if name in names})
    return {
        **{key: claim.get(key) for key in (*FIELDS, "figure")},
        **{key: first.get(key) for key in ("value", "low", "high", "n")},
        "paper": claim["number"],
        "seeds": seeds,
        "models": names,
        "verdict": claim["computed"],
        "recorded": claim["verdict"],
        "checks": checks,
    }


def rows(chapter: str | None = None, **options):
    """The judged claims of a chapter ("fig4_relation_head"), or all, to be shown in a notebook;
    options: of `html`.
    """
    from IPython.display import HTML

    judged = (
        ledger()
        if chapter is None
        else [judge(claim) for claim in load() if claim["chapter"] == chapter]
    )
    return HTML(html(judged, **options))
