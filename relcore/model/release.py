"""Turn a finished training run into a shipped model: checkpoint, manifest entry, result tables."""

import platform
import shutil
import sys
from pathlib import Path

import torch

from ..data.prompts import CANONICAL, PHRASES, suite
from ..errors import RelcoreError
from ..files import check_writable, sha256, write_json
from ..paths import CHECKPOINTS, RESULTS
from . import checkpoints
from .diffusion import fast_precision
from .evaluation import commit, evaluate, report, write_table
from .recipe import recipe_in

SUITES = {"canonical": (CANONICAL, 10), "phrases": (PHRASES, 4)}  # phrases, seeds a prompt


def release(
    run: Path,
    name: str,
    folder: Path = CHECKPOINTS,
    results: Path = RESULTS,
    seeds: int | None = None,
    note: str = "",
) -> dict:
    """Round a run's EMA weights to bf16, evaluate them as they will be loaded, and ship them.

    Writes `folder/name.safetensors` and its line in the manifest, the picture-by-picture tables
    `results/evaluations/name-SUITE.parquet`, and the run's curve and frames in
    `results/training/name/`. seeds: pictures a prompt, if not those of SUITES. note: what a reader
    must know and the recipe does not say.
    Returns the manifest entry; the metrics are also said on stderr before anything is written.
    """
    path = folder / f"{name}.safetensors"
    files = {key: results / "evaluations" / f"{name}-{key}.parquet" for key in SUITES}
    check_writable(
        path,
        folder / checkpoints.MANIFEST,
        *files.values(),
        results / "training" / name / "config.json",
    )
    if missing := [part for part in ("metrics.parquet", "frames") if not (run / part).exists()]:
        raise RelcoreError(f"'{run}' has no {missing[0]}: name the folder of a training run")
    recipe = recipe_in(run)
    model, header = checkpoints.load_model(str(run / "model.safetensors"))
    weights = {key: value.bfloat16() for key, value in model.state_dict().items()}
    model.load_state_dict(weights)
    encoder, process, precision = recipe.make_encoder(), recipe.make_process(), fast_precision()
    tables = {
        key: evaluate(
            model,
            encoder,
            suite(phrases),
            range(seeds or n),
            process=process,
            precision=precision,
            progress=f"{name} {key}",
        )
        for key, (phrases, n) in SUITES.items()
    }
    metrics = {
        key: report(table, size=model.config.image_size)["metrics"] for key, table in tables.items()
    }
    for key, found in metrics.items():  # before anything is written
        print(
            f"{name} {key}:", *(f"{m} {v['value']:.3f}" for m, v in found.items()), file=sys.stderr
        )
    provenance = {
        "commit": commit(),
        "torch": torch.__version__,
        "machine": platform.machine(),
        "evaluated_in": precision,
        "samples": header["samples"],
        "note": note,
    }
    checkpoints.save_model(
        path,
        weights,
        model.config,
        {"recipe": header["recipe"], "provenance": provenance, "metrics": metrics},
    )
    entry = {
        "preset": recipe.preset,
        "encoder": recipe.encoder,
        "seed": recipe.seed,
        "samples": header["samples"],
        "params": sum(w.numel() for w in weights.values()),
        "bytes": path.stat().st_size,
        "sha256": sha256(path),
        "note": note,
        "metrics": metrics,
    }
    write_json(folder / checkpoints.MANIFEST, {**checkpoints.manifest(folder), name: entry})
    command = f"relcore release {run} {name}" + (f" -n {seeds}" if seeds else "")
    for key, table in tables.items():
        write_table(files[key], table, command=command, checkpoint=entry["sha256"], seed=0)
    publish_curve(run, name, results)
    return entry


def publish_curve(run: Path, name: str, results: Path = RESULTS) -> None:
    """Put a run's recipe, metrics table and sample frames into `results/training/name/`, in place
    of an older run's.
    """
    target = results / "training" / name
    copy = target.with_name(f".{name}.new")
    try:
        (copy / "frames").mkdir(parents=True, exist_ok=True)
        for file in ("config.json", "metrics.parquet"):
            shutil.copy(run / file, copy / file)
        shutil.copytree(run / "frames", copy / "frames", dirs_exist_ok=True)
        shutil.rmtree(target, ignore_errors=True)
        copy.rename(target)
    except OSError as error:
        raise RelcoreError(
            f"cannot copy the run '{run}' to '{target}': {error.strerror}"
        ) from error
    finally:
        shutil.rmtree(copy, ignore_errors=True)
