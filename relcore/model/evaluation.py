"""Evaluation: sample pictures for a prompt suite, score each, summarise with intervals."""

import functools
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from ..data.prompts import caption, parse
from ..data.scenes import RELATIONS, render, sample_scenes
from ..data.scoring import METRICS, detect, score, summarise, wilson
from ..errors import RelcoreError
from ..files import check_writable, replacing
from ..paths import RESULTS, SOURCE
from .diffusion import sample
from .dit import DiT

if TYPE_CHECKING:
    from accelerate import PartialState

# What a number in a table can depend on, the models and text tables aside; not other tables,
# outputs and pages.
CODE = ("relcore", "experiments", "notebooks/*.py", "pyproject.toml", "constraints.txt")


def processes() -> "PartialState":
    """The processes that torchrun or accelerate started, or this one alone, with the device of
    each.

    Accelerate takes CPU processes for one another's only if told that they are; otherwise each
    would do all the work.
    """
    from accelerate import PartialState

    several, found = (
        int(os.environ.get("WORLD_SIZE", 1)) > 1,
        torch.accelerator.current_accelerator(),
    )
    return PartialState(cpu=several and (found is None or found.type == "mps"))


def batches(
    prompts: list[str], seeds: range | list[int], batch: int
) -> list[tuple[list[str], list[int]]]:
    """(prompts, noise seeds) of each batch of pictures: every prompt with every seed.

    The noise has a seed of its own for every picture, or one odd noise would count once for every
    prompt.
    """
    jobs = [(p, len(prompts) * seed + i) for seed in seeds for i, p in enumerate(prompts)]
    return [
        tuple(map(list, zip(*jobs[at : at + batch], strict=True)))
        for at in range(0, len(jobs), batch)
    ]


def evaluate(
    model: DiT,
    encoder,
    prompts: list[str],
    seeds: range | list[int] = range(10),
    *,
    progress: str | None = None,
    batch: int = 48,
    draw: Callable[..., Tensor] | None = None,
    processes: "PartialState | None" = None,
    **sampling,
) -> pd.DataFrame:
    """One row a picture: prompt, seed, relation and the verdicts of `scoring.score`.

    Every prompt is drawn with every seed. progress: label of the progress bar, None for no bar.
    draw: what draws a batch, called as `diffusion.sample` and in its place.
    processes: of `processes`, to share the batches out; each process gets the whole table, as one
        alone.
    sampling: as in `diffusion.sample`. Raises RelcoreError, before any is drawn, if a prompt cannot
        be encoded.
    """
    encoder.encode(prompts)
    rows, jobs = [], batches(prompts, seeds, batch)
    if processes:
        jobs = jobs[processes.process_index :: processes.num_processes]
    for texts, noise in tqdm(
        jobs, desc=progress, unit="batch", disable=progress is None, leave=False
    ):
        for text, seed, image in zip(
            texts, noise, (draw or sample)(model, encoder, texts, noise, **sampling), strict=True
        ):
            prompt = parse(text)
            verdict = score(detect(image.numpy()), prompt)
            rows.append(
                {"prompt": text, "seed": seed, "relation": RELATIONS[prompt.relation], **verdict}
            )
    if processes:
        from accelerate.utils import gather_object

        # Each picture has its own, in order.
        rows = sorted(gather_object(rows), key=lambda row: row["seed"])
    return pd.DataFrame(rows)


def ground_truth(
    n: int = 2000, generator: str = "separated", size: int = 64, seed: int = 0
) -> pd.DataFrame:
    """The same table for n rendered scenes: the scorer's verdicts on the truth, the ceiling."""
    rng = np.random.default_rng(seed)
    scenes = sample_scenes(n, rng, generator)
    prompts = caption(scenes, rng)
    return pd.DataFrame(
        [
            {
                "prompt": text,
                "seed": seed,
                "relation": RELATIONS[relation],
                **score(detect(image), parse(text)),
            }
            for text, relation, image in zip(
                prompts, scenes.relations, render(scenes, size), strict=True
            )
        ]
    )


@functools.cache
def ceiling(generator: str = "separated", size: int = 64) -> dict[str, float]:
    """What the scorer gives the truth itself: {metric: share}."""
    rows = ground_truth(2000, generator, size)
    return {metric: float(rows[metric].mean()) for metric in METRICS}


def report(rows: pd.DataFrame, generator: str = "separated", size: int = 64) -> dict:
    """Metrics object, mean displacement of object 1 from object 2, and metrics by relation."""
    top = ceiling(generator, size)
    return {
        "metrics": summarise(rows, top),
        "displacement": {"dx": float(rows.dx.mean()), "dy": float(rows.dy.mean())},
        "by_relation": {
            r: summarise(rows[rows.relation == r], top) for r in rows.relation.unique()
        },
    }


def training_curve(name: str, results: Path = RESULTS) -> pd.DataFrame:
    """A shipped run's metrics table (samples, seconds, suite, metric, value, n) with 95 %
    intervals.

    Columns run, encoder, preset and seed say which run it is.
    """
    folder = results / "training" / name
    try:
        table = pd.read_parquet(folder / "metrics.parquet")
        recipe = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RelcoreError(
            f"cannot read the training curve '{folder}' ({error}): restore it from git"
        ) from error
    table["low"], table["high"] = zip(*map(wilson, table.value * table.n, table.n), strict=True)
    return table.assign(run=name, **{key: recipe[key] for key in ("encoder", "preset", "seed")})


def reached(curves: pd.DataFrame, levels: tuple[float, ...] = (0.5, 0.95)) -> pd.DataFrame:
    """Samples and minutes at which each run's accuracies first reach a level; NaN if they never do.

    One row a run, suite, metric and level. Minutes are those of the machine that trained it,
    evaluations left out.
    """
    rows = []
    for (run, suite, metric), curve in curves[curves.metric.isin(METRICS)].groupby(
        ["run", "suite", "metric"]
    ):
        for level in levels:
            there = curve[curve.value >= level].sort_values("samples").head(1)
            samples, seconds = (
                there[["samples", "seconds"]].iloc[0] if len(there) else (np.nan, np.nan)
            )
            rows.append(
                {
                    "run": run,
                    "suite": suite,
                    "metric": metric,
                    "level": level,
                    "samples": samples,
                    "minutes": seconds / 60,
                }
            )
    return pd.DataFrame(rows)


def commit() -> str:
    """The git commit of the code that runs, "-dirty" if it differs in CODE; "unknown" outside a
    checkout.
    """

    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", "--no-optional-locks", *arguments],
            cwd=SOURCE,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()

    # Installed: git would answer for whatever repository lies around.
    if not (SOURCE / ".git").exists():
        return "unknown"
    try:
        changed = git("status", "--porcelain", "--", *CODE)
        return git("describe", "--always", "--abbrev=12") + ("-dirty" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def write_table(
    path: Path, rows: pd.DataFrame, *, command: str, checkpoint: str, seed: int
) -> None:
    """Write a result table with what made it: `pandas.read_parquet(path).attrs` gives it back.

    checkpoint: sha256 of the model's file.
    """
    rows = rows.copy(deep=False)  # the caller's keeps its own attrs
    rows.attrs = {"command": command, "seed": seed, "commit": commit(), "checkpoint": checkpoint}
    with replacing(path) as temporary:
        rows.to_parquet(temporary)


def plain(sampling: dict) -> dict:
    """What of the sampling can be written down: the noise process is the checkpoint's own."""
    return {key: value for key, value in sampling.items() if isinstance(value, (str, int, float))}


def stored(file: Path | None) -> pd.DataFrame:
    """The table that a file holds already; an empty one if there is no file. RelcoreError if it
    holds no table.
    """
    try:
        return pd.read_parquet(file) if file and file.exists() else pd.DataFrame()
    except (OSError, ValueError) as error:
        raise RelcoreError(
            f"'{file}' is no table to go on with ({error}): name another file"
        ) from error


def resumable(
    runs: dict[str, Callable[[], pd.DataFrame]],
    file: Path | None,
    settings: dict,
    column: str = "run",
    *,
    command: str = "",
    progress: str | None = None,
) -> pd.DataFrame:
    """The tables of all runs in one, told apart by `column`.

    file: written after each run; those it holds already are not run again. settings: what must be
    equal to go on with it, such as the checkpoint's sha256; kept in `attrs`, as are under "runs"
    the command and commit of each run (in older files one command and commit, those of the last run
    made).
    Raises RelcoreError if the file holds runs with other settings, or no table, or cannot be
    written.
    """
    if file:
        check_writable(file)
    done, made = stored(file), {"command": command, "commit": commit()}
    held = done.attrs.get("settings", {}) if len(done) else settings
    if differ := sorted(key for key in settings if held.get(key) != settings[key]):
        raise RelcoreError(f"'{file}' was made with another {', '.join(differ)}: name another file")
    parts, have, attrs = [done], set(done.get(column, ())), done.attrs
    left = [name for name in runs if name not in have]
    for name in tqdm(left, desc=progress, unit="run", disable=progress is None):
        parts.append(runs[name]().assign(**{column: name}))
        if file:
            table = pd.concat(parts, ignore_index=True)
            table.attrs = attrs = {
                **attrs,
                "settings": settings,
                "runs": {**attrs.get("runs", {}), name: made},
            }
            with replacing(file) as temporary:
                table.to_parquet(temporary)
    table = pd.concat(parts, ignore_index=True)
    table = table[table[column].isin(runs)]
    table.attrs = {"settings": settings}
    return table
