"""The pipeline: `dvc.yaml`, made from `runs.yaml`, the experiments and the chapters.

A stage is a command of this package, and is stale if what it depends on has other contents:

- `train-RUN`: the run's recipe in `runs.yaml`, and the table of its encoder.
- `EXPERIMENT@RUN`: the experiment's file with what it imports of `experiments` and of
  `relcore.kernels`, and the sha256 of the weights in the manifest, so that it can be up to date
  where the weights are not.
- `chapter-NAME`: its .py half with what that imports likewise, and of `relcore.view`; the folders
  of results that it and its experiments name; the runs and their manifest.

The other modules of relcore are no dependencies: a change of the package would make hours of
results stale that it does not alter. `relcore.experiment.check` tells whether it does.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import yaml

from .experiment import experiments
from .files import replacing
from .model.checkpoints import MANIFEST
from .model.release import SUITES
from .paths import CHECKPOINTS, NOTEBOOKS, RESULTS, ROOT, TABLES
from .registry import OWN, RUNS, declared, runs

FOLLOWED = ("experiments.", "relcore.kernels.", "relcore.view.")
HEADER = "# Made by `relcore pipeline` from runs.yaml, experiments/ and notebooks/: do not edit.\n"


def stages() -> dict[str, dict]:
    """{name: stage} as `dvc.yaml` spells them; an experiment is one stage with a matrix of runs."""
    training = {f"train-{name}": _training(name, fields) for name, fields in declared().items()}
    made = {name: _experiment(name, chosen.runs) for name, chosen in experiments().items()}
    chapters = {f"chapter-{file.stem}": _chapter(file) for file in sorted(NOTEBOOKS.glob("*.py"))}
    return training | made | chapters


def names(made: dict[str, dict]) -> list[str]:
    """Of every one of these stages, as `dvc status` and `dvc.lock` call it."""
    return [
        f"{name}@{run}" if run else name
        for name, stage in made.items()
        for run in stage.get("matrix", {"run": [""]})["run"]
    ]


def write(folder: Path = ROOT) -> list[str]:
    """Write `dvc.yaml`, drop from `dvc.lock` the stages that are no more; return all names."""
    made, lock = stages(), folder / "dvc.lock"
    with replacing(folder / "dvc.yaml") as temporary:
        temporary.write_text(HEADER + _dump({"stages": made}), encoding="utf-8")
    known = names(made)
    if lock.exists():
        held = yaml.safe_load(lock.read_text(encoding="utf-8"))
        if gone := held["stages"].keys() - known:
            held["stages"] = {n: stage for n, stage in held["stages"].items() if n not in gone}
            with replacing(lock) as temporary:
                temporary.write_text(_dump(held), encoding="utf-8")
    return known


def sources(file: Path) -> list[Path]:
    """The file and what it imports of FOLLOWED, directly or not; with M.py also M.yml, if any."""
    found, left = set(), [file]
    while left:
        if (each := left.pop()) not in found:
            found |= {path for path in (each, each.with_suffix(".yml")) if path.exists()}
            left += _imported(each)
    return sorted(found)


def _imported(file: Path) -> Iterator[Path]:
    package = file.relative_to(ROOT).parts[:-1]
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        modules = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else ()
            module = ".".join([*above, *([node.module] if node.module else [])])
            modules = [module, *(f"{module}.{alias.name}" for alias in node.names)]
        for module in modules:
            path = ROOT / (module.replace(".", "/") + ".py")
            if module.startswith(FOLLOWED) and path.exists():
                yield path


def _training(name: str, fields: dict) -> dict:
    """Its curve alone, if the run keeps no more; else also the tables of its release, its weights.

    persist: an interrupted training goes on.
    """
    commands, outs = [f"relcore train {name} --resume"], [RESULTS / "training" / name]
    commands.append(f"relcore release runs/{name} {name}")
    if fields["keeps"] != "curve":
        outs += [RESULTS / "evaluations" / f"{name}-{suite}.parquet" for suite in SUITES]
    if fields["keeps"] == "weights":
        outs.append(CHECKPOINTS / f"{name}.safetensors")
    table = TABLES / f"{fields['encoder']}.safetensors"
    recipe = ["size", *(key for key in fields if key not in OWN)]
    return {
        "cmd": commands,
        **({"deps": [_path(table)]} if table.exists() else {}),
        "params": [{RUNS.name: [f"{name}.{key}" for key in recipe]}],
        "outs": [{path: {"cache": False, "persist": True}} for path in _paths(outs)],
    }


def _experiment(name: str, query: str) -> dict:
    """The recipe of the run is the output of its training that this is made after."""
    recipe = RESULTS / "training" / "${item.run}" / "config.json"
    table = RESULTS / name / "${item.run}.parquet"
    return {
        "matrix": {"run": list(runs(query).run)},
        "cmd": f"relcore run {name} --run ${{item.run}}",
        "deps": _paths([*sources(ROOT / "experiments" / f"{name}.py"), recipe]),
        "params": [{_path(CHECKPOINTS / MANIFEST): ["${item.run}.sha256"]}],
        "outs": [{_path(table): {"cache": False}}],
    }


def _chapter(file: Path) -> dict:
    read = sources(file)
    known = {*experiments(), *(path.name for path in RESULTS.iterdir() if path.is_dir())}
    constants = {
        node.value
        for path in read
        if path.suffix == ".py" and path.parent in (NOTEBOOKS, ROOT / "experiments")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    named = [RESULTS / name for name in sorted(constants & known)]
    return {
        "cmd": f"relcore notebooks --only {file.stem}",
        "deps": _paths([*read, *named, RUNS, CHECKPOINTS / MANIFEST]),
        "outs": [{_path(file.with_suffix(".ipynb")): {"cache": False, "persist": True}}],
    }


def _path(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _paths(paths: list[Path]) -> list[str]:
    return [_path(path) for path in paths]


def _dump(value: dict) -> str:
    return yaml.safe_dump(value, sort_keys=False, width=1000)
