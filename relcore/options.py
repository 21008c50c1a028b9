"""What the commands share: their common options, opening a model, printing a result."""

import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from .errors import RelcoreError, require


def place(*endings: str):
    """A callback for --out: the file's ending is one of these, and it can be written. Called before
    the command.
    """

    def check(out: Path | None) -> Path | None:
        from .files import check_writable

        if out:
            if out.suffix not in endings:
                raise RelcoreError(f"'{out}' must end in {endings[0]}")
            check_writable(out)
        return out

    return check


def table_option(help: str):
    """The option --out of a command that can write a table."""
    return typer.Option(help=help, callback=place(".parquet", ""))


Out = Annotated[
    Path | None,
    table_option("Write one row a picture to this parquet file, and go on with it if it is there."),
]
Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else.")
]
Seed = Annotated[int, typer.Option(min=0, help="First seed; picture k is drawn from its own seed.")]
Model = Annotated[
    str, typer.Option(help="Name of a shipped model, a .safetensors file or a run's folder.")
]
Steps = Annotated[int, typer.Option(help="Sampling steps.")]
Guidance = Annotated[float, typer.Option(help="Classifier-free guidance; 1 is none.")]
GuidedUntil = Annotated[
    float, typer.Option(help="Share of signal at which guidance stops; 1 is never.")
]
Compiled = Annotated[
    bool,
    typer.Option(
        "--compile",
        help="Compile the network first: faster from the second minute on; needs a C++ compiler.",
    ),
]


def emit(as_json: bool, value: dict, text: str, write: Callable[[], None] | None = None) -> None:
    """One JSON object, in which what is not a number is null, or the text; then `write`, which puts
    it into files.

    In this order, and whatever becomes of the first: a full disk loses no numbers, a closed pipe no
    file.
    """
    try:
        typer.echo(
            json.dumps(json.loads(json.dumps(value), parse_constant=lambda _: None))
            if as_json
            else text
        )
    finally:
        if write:
            write()


def command_line() -> str:
    """What was typed, for the tables that it makes."""
    return " ".join(["relcore", *sys.argv[1:]])


def writing(out: Path | None, rows, model: str, seed: int = 0) -> Callable[[], None] | None:
    """The `write` of `emit`: a table into --out, with what made it."""
    from .model.checkpoints import digest
    from .model.evaluation import write_table

    return out and partial(
        write_table, out, rows, command=command_line(), checkpoint=digest(model), seed=seed
    )


def open_model(name: str, compiled: bool = False):
    """`checkpoints.open_model`, imported when it is needed: `relcore --help` does without torch."""
    from .model.checkpoints import open_model

    return open_model(name, compiled)


def sampling_of(process, steps: int, guidance: float, guided_until: float) -> dict:
    """How the analyses draw: the common options, the checkpoint's noise process, and the fast
    precision.
    """
    from .model.diffusion import fast_precision

    return {
        "process": process,
        "steps": steps,
        "guidance": guidance,
        "guided_until": guided_until,
        "precision": fast_precision(),
    }


def phrases_of(name: str) -> dict[str, tuple[str, ...]]:
    """The phrases of --phrases canonical or all."""
    from .data.prompts import CANONICAL, PHRASES

    require("phrases", name, ("canonical", "all"))
    return CANONICAL if name == "canonical" else PHRASES


def metrics_table(metrics: dict) -> str:
    """The metrics object as lines of text: value, 95 % interval, the truth's own score, n."""
    lines = [f"{'':16}{'value':>7}  {'95 % interval':>15} {'ceiling':>8} {'n':>6}"]
    for name, m in metrics.items():
        lines.append(
            f"{name:16}{m['value']:7.3f}  [{m['low']:.3f}, {m['high']:.3f}] {m['ceiling']:8.3f} "
            f"{m['n']:6d}"
        )
    return "\n".join(lines)
