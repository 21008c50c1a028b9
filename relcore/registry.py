"""Training runs: declared once, one line each in `runs.yaml`, and queried as a table."""

from functools import cache
from pathlib import Path

import pandas as pd
import yaml

from .errors import RelcoreError, require
from .model.checkpoints import manifest
from .model.recipe import TrainConfig, recipe_fields
from .paths import ROOT

RUNS = ROOT / "runs.yaml"
KEEPS = ("weights", "tables", "curve")
# Of the ceiling: the loose relation from which on a network is said to have learned the task.
LEARNED = 0.9
OWN = ("size", "expected", "keeps", "note")  # fields of a line that are no value of the recipe


@cache
def declared(file: Path = RUNS) -> dict[str, dict]:
    """{name: fields} of every run, in the file's order.

    Raises RelcoreError for a line that names an unknown field or value, or lacks encoder, size or
    seed.
    """
    try:
        lines = yaml.safe_load(file.read_text(encoding="utf-8"))
        lines = {str(name): dict(fields) for name, fields in lines.items()}
    except (OSError, yaml.YAMLError, AttributeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise RelcoreError(f"'{file}' cannot be read ({reason}): restore it from git") from error
    for name, fields in lines.items():
        where = f"'{file.name}', run '{name}'"
        if lacking := {"encoder", "size", "seed"} - fields.keys():
            raise RelcoreError(f"{where}: no {', '.join(sorted(lacking))}")
        if unknown := fields.keys() - {*recipe_fields(), *OWN}:
            raise RelcoreError(f"{where}: the recipe has no '{sorted(unknown)[0]}'")
        require(f"keeps of {where}:", fields.setdefault("keeps", "weights"), KEEPS)
        _recipe(fields)
    return lines


def _recipe(fields: dict) -> TrainConfig:
    values = {key: value for key, value in fields.items() if key not in OWN}
    return TrainConfig(preset=fields["size"], **values)


def recipe(name: str) -> TrainConfig:
    """The recipe of a declared run; RelcoreError if there is none of that name."""
    if name not in declared():
        raise RelcoreError(
            f"no run '{name}' in runs.yaml: add a line for it, or choose from "
            f"{', '.join(declared())}"
        )
    return _recipe(declared()[name])


def runs(query: str | None = None) -> pd.DataFrame:
    """The declared runs, one row each, as far as they fit `query` (of `pandas.DataFrame.query`).

    Columns: run, size, every value of the recipe, expected, keeps, note; loose and strict, the
    relation accuracies on the 264 training prompts over the ceiling (NaN if the run was not
    released); learned, whether loose >= LEARNED.

    Example: runs("encoder == 'rte' and learned")
    """
    released = manifest()
    rows = []
    for name, fields in declared().items():
        values = {k: v for k, v in vars(_recipe(fields)).items() if k != "preset"}
        scores = released.get(name, {}).get("metrics", {}).get("phrases", {})
        share = {
            short: scores[metric]["value"] / scores[metric]["ceiling"] if scores else float("nan")
            for short, metric in (("loose", "relation_loose"), ("strict", "relation_strict"))
        }
        own = {key: fields.get(key) for key in ("size", "expected", "keeps")}
        rows.append({"run": name, **own, **values, **share, "note": fields.get("note", "")})
    table = pd.DataFrame(rows)
    table["learned"] = table.loose >= LEARNED
    try:
        return table.query(query).reset_index(drop=True) if query else table
    except Exception as error:  # pandas raises whatever the expression does
        raise RelcoreError(
            f"cannot ask the runs for '{query}' ({error}): columns are {', '.join(table.columns)}"
        ) from error
