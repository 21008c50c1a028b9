"""Experiments: the analyses in `experiments/`, each from a model to a table, and their results.

An experiment is a file `experiments/NAME.py` with a function NAME under the decorator
`experiment`. `run` is the only writer of results: `results/NAME/RUN.parquet`, one schema per
experiment, made part by part, so that an interrupted one goes on. `results` reads them for all
runs together.
"""

import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import pandas as pd

from .data.prompts import suite
from .errors import RelcoreError, require
from .face import Model, load
from .files import check_writable
from .model.checkpoints import digest
from .model.evaluation import resumable, stored
from .paths import RESULTS, ROOT, require_checkout
from .registry import runs

QUICK = 24  # prompts of a quick run, drawn once each
Part = tuple[str, Callable[[], pd.DataFrame]]


@dataclass(frozen=True)
class Experiment:
    """What the decorator `experiment` makes of a function; the fields are its arguments."""

    parts: Callable[..., Iterator[Part]]
    runs: str
    minutes: float
    seeds: int
    prompts: Callable[[], list[str]]

    @property
    def name(self) -> str:
        return self.parts.__name__

    @property
    def about(self) -> str:
        """The first line of its docstring."""
        return (self.parts.__doc__ or "").strip().partition("\n")[0]

    def of(self, model: Model, quick: bool = False) -> tuple[dict, dict]:
        """(its parts on this model, what it is asked of). quick: QUICK prompts, one seed."""
        if not self.seeds:
            return dict(self.parts(model)), {}
        prompts = self.prompts()
        prompts = prompts[:: -(-len(prompts) // QUICK)] if quick else prompts
        seeds = list(range(1 if quick else self.seeds))
        return dict(self.parts(model, prompts, seeds)), {"prompts": len(prompts), "seeds": seeds}


def experiment(
    *, runs: str, minutes: float, seeds: int = 0, prompts: Callable[[], list[str]] = suite
) -> Callable[[Callable], Experiment]:
    """Declare a function of a model as an experiment.

    The function yields parts, (name, function without arguments that makes the part's table); a
    column `part` tells them apart. It gets the model alone, or, if it draws pictures, the model,
    the prompts and the seeds.

    runs: a query on `relcore.runs`, the runs it is for. minutes: roughly, of a micro network on two
    cores with bf16 units. seeds: pictures per prompt; 0 if it draws none. prompts: gives its
    prompts, the 96 canonical ones if not given.
    """
    return lambda parts: Experiment(parts, runs, minutes, seeds, prompts)


def experiments() -> dict[str, Experiment]:
    """{name: experiment} of every file of `experiments/` that declares one."""
    require_checkout()
    found = {}
    for module in pkgutil.iter_modules([str(ROOT / "experiments")]):
        declared = getattr(import_module(f"experiments.{module.name}"), module.name, None)
        if isinstance(declared, Experiment):
            found[module.name] = declared
    return found


def find(name: str) -> Experiment:
    """The experiment of that name; RelcoreError if there is none."""
    require("experiment", name, known := experiments())
    return known[name]


def run(
    name: str,
    model: str,
    *,
    quick: bool = False,
    out: Path | None = None,
    command: str = "",
    progress: bool = True,
) -> pd.DataFrame:
    """Make an experiment's table of a model, or what is missing of it, and return it.

    model: a run's name, the path of a checkpoint, or a training run's folder. out: the file, by
    default that of `results` for a released run; a quick run (QUICK prompts, one seed) writes none
    unless told where. Raises RelcoreError for an unknown name, a file that cannot be written or
    that was made with other weights, prompts or seeds.
    """
    chosen = find(name)
    if out is None and not quick and model in set(runs().run):
        out = RESULTS / name / f"{model}.parquet"
    if out:
        check_writable(out)
    parts, settings = _asked(chosen, name, model, quick)
    label = f"{name} {model}" if progress else None
    return resumable(parts, out, settings, "part", command=command, progress=label)


def _asked(chosen: Experiment, name: str, model: str, quick: bool) -> tuple[dict, dict]:
    """{part: function that makes it} of an experiment on a model, and the table's settings."""
    parts, asked = chosen.of(load(model), quick)
    return parts, {"experiment": name, "checkpoint": digest(model), **asked}


def check(name: str, model: str, file: Path | None = None) -> list[str]:
    """Make the first and the last part of a stored table anew, and compare: these parts' names.

    file: the table, by default that of a released run in `results`. Nothing is written. Raises
    RelcoreError if there is no table, if it was made with other weights, prompts or seeds, or if a
    part has other rows: on the machine that made it, to the bit.
    """
    chosen, file = find(name), file or RESULTS / name / f"{model}.parquet"
    if not file.exists():
        raise RelcoreError(f"no table '{file}': make it with relcore run {name} --run {model}")
    parts, settings = _asked(chosen, name, model, quick=False)
    resumable({}, file, settings, "part")
    held, ends = stored(file), list(dict.fromkeys((next(iter(parts)), list(parts)[-1])))
    for part in ends:
        made, rows = parts[part](), held[held.part == part].drop(columns="part")
        made, rows = made.reset_index(drop=True), rows.reset_index(drop=True)
        try:  # dtypes: other parts may have widened a column
            pd.testing.assert_frame_equal(
                made, rows, check_exact=True, check_dtype=False, check_like=True
            )
        except AssertionError as error:
            raise RelcoreError(
                f"'{file}', part '{part}': made anew, its rows are others: if the code has "
                "changed, remove the table and make it again; another machine rounds differently"
            ) from error
    return ends


def results(name: str, query: str | None = None) -> pd.DataFrame:
    """The tables of an experiment, of all its runs that fit the query (`relcore.runs`), in one.

    Columns run, encoder and size say whose a row is. Raises RelcoreError, with the command that
    makes it, if the table of such a run is missing.
    """
    chosen, tables = find(name), []
    asked = runs(f"({chosen.runs}) and ({query})" if query else chosen.runs)
    for row in asked.itertuples():
        file = RESULTS / name / f"{row.run}.parquet"
        try:
            table = pd.read_parquet(file)
        except (OSError, ValueError) as error:
            reason = f"cannot be read ({error})" if file.exists() else "is missing"
            raise RelcoreError(
                f"the table '{file.relative_to(ROOT)}' {reason}: make it with "
                f"relcore run {name} --run {row.run}"
            ) from error
        table.attrs = {}
        tables.append(table.assign(run=row.run, encoder=row.encoder, size=row.size))
    if not tables:
        raise RelcoreError(f"no run fits '{query}' among those of {name}: {chosen.runs}")
    return pd.concat(tables, ignore_index=True)
