"""The command line: `relcore COMMAND --help` shows an example of each.

Results go to stdout (one JSON object with --json), progress to stderr. Bad input ends with one
line on stderr and exit status 2; --debug shows where it came from.
"""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from . import analyses
from .errors import RelcoreError, require
from .options import (
    Compiled,
    Guidance,
    GuidedUntil,
    Json,
    Model,
    Seed,
    Steps,
    command_line,
    emit,
    metrics_table,
    open_model,
    phrases_of,
    place,
    table_option,
    writing,
)

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    help=__doc__,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)


@app.command()
def models(as_json: Json = False) -> None:
    """List the released models with their metrics; of those with a * only the tables are shipped.

    Example: relcore models --json
    """
    from .data.scoring import METRICS
    from .model.checkpoints import manifest
    from .paths import require_checkout

    require_checkout()
    entries = [{"name": name, **entry} for name, entry in manifest().items()]
    entries.sort(key=lambda e: (e["preset"], e["encoder"], e["name"]))
    titles = "".join(f"{m.replace('relation_', ''):17}" for m in METRICS)
    lines = [
        f"{'name':22}{'size':7}{'encoder':11}{'params':>7}  {titles}n (canonical prompts; 95 % "
        "intervals)"
    ]
    for e in entries:
        m = e["metrics"]["canonical"]
        scores = "".join(f"{v['value']:.2f} ({v['low']:.2f}-{v['high']:.2f}) " for v in m.values())
        size = f"{e['params'] / 1e6:6.1f}M"
        name = e["name"] + ("" if e.get("shipped", True) else " *")
        lines.append(f"{name:22}{e['preset']:7}{e['encoder']:11}{size}  {scores}{m['color']['n']}")
    emit(
        as_json,
        {
            "models": [
                {**e, "metrics": e["metrics"]["canonical"], "suites": e["metrics"]} for e in entries
            ]
        },
        "\n".join(lines),
    )


@app.command()
def train(
    name: Annotated[
        str | None, typer.Argument(help="A run of runs.yaml; it needs no further options.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run; runs/NAME if not given.")
    ] = None,
    preset: Annotated[
        str | None, typer.Option(help="nano, micro, mini, S or B; micro if not given.")
    ] = None,
    encoder: Annotated[
        str | None, typer.Option(help="rte, rte-nopos, e5, minilm, or a table's path.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Seed of weights, scenes, noise; 0 if not given.")
    ] = None,
    samples: Annotated[
        int | None, typer.Option(help="Pictures seen in all; --resume may change it.")
    ] = None,
    recipe: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any other value of the recipe: --set captions=paper"),
    ] = None,
    threads: Annotated[int, typer.Option(min=0, help="CPU threads of this process.")] = 0,
    snapshots: Annotated[
        bool, typer.Option("--snapshots", help="Keep the weights of every evaluation.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in --out, to the same bits.")
    ] = False,
    compiled: Compiled = False,
    as_json: Json = False,
) -> None:
    """Train a model: a run of runs.yaml, or any other recipe. Ctrl-C saves; --resume goes on.

    Example: relcore train rte-micro
    Example: relcore train --preset micro --encoder rte --seed 7 --out runs/mine
    On several GPUs: accelerate launch -m relcore.cli train ...; on CPU cores: torchrun
        --nproc_per_node 2 -m ...
    """
    import torch

    from .model.recipe import TrainConfig, changed, recipe_in
    from .model.training import Run
    from .registry import recipe as declared_recipe

    if not (name or out):
        raise RelcoreError("say what to train: a run of runs.yaml, or a recipe and --out FOLDER")
    out = out or Path("runs") / name
    if threads:
        torch.set_num_threads(threads)
    given = {"preset": preset, "encoder": encoder, "seed": seed, "samples": samples}
    start = declared_recipe(name) if name else recipe_in(out) if resume else TrainConfig()
    config = changed(start, given, recipe or [])
    run = Run(config, out, resume=resume, snapshots=snapshots, compiled=compiled)
    table = run.train()
    if not run.accelerator.is_main_process:  # the others keep no table
        return
    last = table[table.samples == table.samples.max()]
    value = {
        "out": str(out),
        "samples": int(table.samples.max()),
        "seconds": float(table.seconds.max()),
        "metrics": {s: dict(zip(g.metric, g.value, strict=True)) for s, g in last.groupby("suite")},
    }
    emit(as_json, value, last[["suite", "metric", "value", "n"]].to_string(index=False))


@app.command()
def sample(
    prompts: Annotated[list[str], typer.Argument(help="One prompt or more.")],
    model: Model = "rte-micro",
    number: Annotated[int, typer.Option("-n", min=1, help="Pictures a prompt.")] = 4,
    out: Annotated[
        Path, typer.Option(help="FILE.png: a labelled grid; else a folder of PNGs.")
    ] = Path("picture.png"),
    seed: Seed = 0,
    steps: Steps = 18,
    guidance: Guidance = 4.0,
    guided_until: GuidedUntil = 0.2,
    sampler: Annotated[str, typer.Option(help="euler, heun or dpm.")] = "dpm",
    as_json: Json = False,
) -> None:
    """Draw pictures for prompts and score them.

    Example: relcore sample "red square is above blue circle" --model rte-micro -n 4 --out
    picture.png
    """
    from .data.prompts import PHRASES, parse, suite
    from .data.scoring import describe, detect, score
    from .files import check_writable, write_png
    from .model.diffusion import sample as draw
    from .view.figures import picture_grid, write_figure

    parsed = [parse(p) for p in prompts]
    jobs = [(p, seed + k) for p in parsed for k in range(number)]
    files = [out if out.suffix else out / f"{'-'.join(p.text.split())}-s{s}.png" for p, s in jobs]
    if out.suffix not in (".png", ""):
        raise RelcoreError(f"'{out}' must end in .png, or be a folder for one file per picture")
    check_writable(*set(files))
    network, _, encoder, process = open_model(model)
    known = {word for p in suite(PHRASES) for word in p.split()}
    new = sorted({word for p in parsed for word in p.text.lower().split()} - known)
    if new and not encoder.contextual:
        typer.echo(
            f"relcore: not in the training captions: {', '.join(new)}; with random token "
            "embeddings such words have no meaning to the model",
            err=True,
        )
    # What an encoder lacks is said before anything is drawn.
    encoder.encode([p.text for p in parsed])
    pictures = draw(
        network,
        encoder,
        [p.text for p, _ in jobs],
        [s for _, s in jobs],
        process=process,
        sampler=sampler,
        steps=steps,
        guidance=guidance,
        guided_until=guided_until,
    ).numpy()
    images = []
    for (prompt, s), picture, file in zip(jobs, pictures, files, strict=True):
        objects = detect(picture)
        verdict = score(objects, prompt)
        images.append(
            {
                "file": str(file),
                "prompt": prompt.text,
                "seed": s,
                "objects": describe(objects),
                "metrics": {k: v for k, v in verdict.items() if v == v},
            }
        )

    def write() -> None:
        if out.suffix:
            write_figure(
                out,
                picture_grid(pictures, [f"{p.text}\nseed {s}" for p, s in jobs], columns=number),
            )
            return
        for file, picture in zip(files, pictures, strict=True):
            write_png(file, picture)

    emit(
        as_json,
        {"images": images},
        "\n".join(
            f"{i['file']}  seed {i['seed']}  {i['prompt']!r}: "
            f"{', '.join(i['objects']) or 'nothing found'}"
            f"  relation {'right' if i['metrics']['relation_loose'] else 'wrong'}"
            f" (strict: {'right' if i['metrics']['relation_strict'] else 'wrong'})"
            for i in images
        ),
        write,
    )


@app.command()
def evaluate(
    model: Model = "rte-micro",
    template: Annotated[
        str,
        typer.Option(
            help="How to put it: train, is-the, no-is, no-is-the, the-the, articles, "
            "filler, reversed, reversed-the, reversed-the-first, reversed-the-second, "
            "color-synonyms, shape-synonyms, relation-synonyms, capitals, spaces, crimson or navy."
        ),
    ] = "train",
    phrases: Annotated[
        str, typer.Option(help="canonical (96 prompts) or all (264, 22 phrases).")
    ] = "canonical",
    generator: Annotated[
        str, typer.Option(help="Whose ceiling to show: separated or paper.")
    ] = "separated",
    number: Annotated[int, typer.Option("-n", min=1, help="Pictures a prompt.")] = 1,
    out: Annotated[
        Path | None, table_option("Also write one row a picture to this parquet file.")
    ] = None,
    seed: Seed = 0,
    steps: Steps = 18,
    guidance: Guidance = 4.0,
    guided_until: GuidedUntil = 0.2,
    sampler: Annotated[str, typer.Option(help="euler, heun or dpm.")] = "dpm",
    compiled: Compiled = False,
    as_json: Json = False,
) -> None:
    """Measure colour, shape, binding and relation accuracy over a closed prompt suite.

    Example: relcore evaluate --model rte-micro --phrases all -n 4 On several GPUs, or CPU
    processes, as `relcore train`: they share the pictures, and the numbers are the same.
    """
    from .data.prompts import suite
    from .data.scenes import GENERATORS
    from .model.evaluation import evaluate as run
    from .model.evaluation import processes, report

    require("generator", generator, GENERATORS)
    prompts = suite(phrases_of(phrases), template)
    network, header, encoder, process = open_model(model, compiled)
    shared = processes()
    rows = run(
        network.to(shared.device),
        encoder,
        prompts,
        range(seed, seed + number),
        processes=shared,
        process=process,
        sampler=sampler,
        steps=steps,
        guidance=guidance,
        guided_until=guided_until,
        progress=f"evaluate {model}" if shared.is_local_main_process else None,
    )
    if not shared.is_main_process:
        return
    summary = report(rows, generator, network.config.image_size)
    value = {
        "model": model,
        "template": template,
        "phrases": phrases,
        "generator": generator,
        **summary,
    }
    emit(as_json, value, metrics_table(summary["metrics"]), writing(out, rows, model, seed))


for command in (
    analyses.fusion,
    analyses.synopsis,
    analyses.screen,
    analyses.ablate,
    analyses.rewire,
    analyses.robustness,
):
    app.command()(command)


@app.command("run")
def run_experiment(
    name: Annotated[str, typer.Argument(help="An experiment: a file of experiments/.")],
    model: Annotated[
        list[str], typer.Option("--run", help="A run's name, or a checkpoint; may be given again.")
    ],
    quick: Annotated[
        bool, typer.Option("--quick", help="24 prompts, one picture each; writes no table.")
    ] = False,
    out: Annotated[
        Path | None, table_option("The table, if not results/NAME/RUN.parquet; for one --run.")
    ] = None,
    checked: Annotated[
        bool, typer.Option("--check", help="Make two parts of the table anew, and compare.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Make an experiment's table of a run, or what is missing of it.

    Example: relcore run masks --run rte-micro
    """
    from .experiment import check, find, run

    find(name)
    if out and len(model) > 1:
        raise RelcoreError("--out is the table of one run: give one --run")
    if checked and quick:
        raise RelcoreError("--check is of a whole table: leave out --quick")
    done, lines = [], []
    for each in model:
        if checked:
            done.append({"run": each, "equal": check(name, each, out)})
            lines.append(f"{name} {each}: as stored: {'; '.join(done[-1]['equal'])}")
            continue
        table = run(name, each, quick=quick, out=out, command=command_line())
        done.append({"run": each, "rows": len(table), "parts": table.part.nunique()})
        lines.append(f"{name} {each}: {len(table)} rows in {done[-1]['parts']} parts")
    emit(as_json, {"experiment": name, "runs": done}, "\n".join(lines))


@app.command()
def encode(
    encoder: Annotated[str, typer.Option(help="e5, e5-random, minilm; t5 or hf with --from.")],
    out: Annotated[
        Path, typer.Option(callback=place(".safetensors"), help="The table, a .safetensors file.")
    ],
    source: Annotated[
        str | None, typer.Option("--from", help="Hub id[@revision] or folder, of t5 or hf.")
    ] = None,
    suites: Annotated[
        str, typer.Option(help="all (training prompts and every perturbation) or training.")
    ] = "all",
    as_json: Json = False,
) -> None:
    """Encode the closed prompt suites into a table to train and analyse with.

    The 264 training prompts, and the 96 canonical ones in every template and rewrite of `relcore
    evaluate`.

    Example: relcore encode --encoder t5 --from google/t5-v1_1-xxl --out t5.safetensors
    """
    import torch
    from tqdm import tqdm

    from .data.contextual import make_contextual
    from .data.encoders import write_table
    from .data.prompts import CANONICAL, PHRASES, REWRITES, TEMPLATES, suite
    from .files import sha256

    require("suites", suites, ("all", "training"))
    others = (
        [p for t in (*TEMPLATES, *REWRITES) for p in suite(CANONICAL, t)] if suites == "all" else []
    )
    torch.set_num_threads(1)  # the last bit of a vector depends on their number
    contextual = make_contextual(encoder, source)
    header = write_table(
        out,
        contextual,
        suite(PHRASES),
        others,
        lambda prompts: tqdm(prompts, desc=f"encode {encoder}", unit="prompt"),
    )
    value = {
        "out": str(out),
        "sha256": sha256(out),
        "prompts": len(header.pop("prompts")),
        **header,
    }
    emit(as_json, value, f"{out}: {value['prompts']} prompts, {out.stat().st_size / 1e6:.1f} MB")


@app.command()
def release(
    run: Annotated[Path, typer.Argument(help="Folder of a training run.")],
    name: Annotated[str, typer.Argument(help="Name of the shipped model.")],
    number: Annotated[
        int | None, typer.Option("-n", min=1, help="Pictures a prompt; 10 and 4 if not given.")
    ] = None,
    note: Annotated[
        str, typer.Option(help="What a reader must know and the recipe does not say.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Evaluate a run's model, round it to bf16 and add it to the shipped models.

    Of a run that keeps its curve alone (runs.yaml), the curve.

    Example: relcore release runs/rte-micro-s0 rte-micro
    """
    from .model.release import publish_curve
    from .model.release import release as ship
    from .registry import declared

    if declared().get(name, {}).get("keeps") == "curve":
        publish_curve(run, name)
        emit(as_json, {"name": name}, f"{name}: its training curve")
        return
    entry = ship(run, name, seeds=number, note=note)
    emit(
        as_json,
        {"name": name, **entry},
        "\n\n".join(f"{s}\n{metrics_table(m)}" for s, m in entry["metrics"].items()),
    )


@app.command()
def export(
    model: Model = "rte-micro",
    out: Annotated[
        Path | None, typer.Option(callback=place(".onnx"), help="The graph, an .onnx file.")
    ] = None,
    page: Annotated[
        Path | None,
        typer.Option(help="Instead: a folder, for what the chapters' pages load to run networks."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a network as one ONNX graph that can be taken apart: see relcore.model.export.

    Example: relcore export --model rte-micro --out rte-micro.onnx
    """
    if not (out or page):
        raise RelcoreError("say what to write: --out FILE.onnx, or --page FOLDER")
    if page:
        from .paths import require_checkout
        from .view.explore.live_network import networks_shown, write_parts

        require_checkout()
        written = write_parts(page, networks_shown())
    else:
        from .model.export import export as write

        network, _, _, process = open_model(model)
        write(network, process, out)
        written = {str(out): out.stat().st_size}
    emit(
        as_json,
        {"files": [{"file": file, "bytes": size} for file, size in written.items()]},
        "\n".join(f"{file}: {size / 1e6:.1f} MB" for file, size in written.items()),
    )


@app.command()
def notebooks(
    quick: Annotated[
        bool, typer.Option("--quick/--full", help="Small samples, or the numbers of the book.")
    ] = True,
    only: Annotated[
        str | None, typer.Option(help="Run the notebooks whose name contains this.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Sync the notebook pairs, run them with papermill, normalise the outputs.

    Example: relcore notebooks --quick --only fig1
    """
    from . import paths
    from .files import check_writable
    from .view.notebooks import run_all

    paths.require_checkout()
    if not quick:
        check_writable(paths.RESULTS / "a.parquet")  # where full runs keep what they drew
    done = run_all(quick=quick, only=only)
    emit(
        as_json, {"notebooks": done}, "\n".join(f"{d['name']}: {d['seconds']:.1f} s" for d in done)
    )


@app.command()
def pipeline(as_json: Json = False) -> None:
    """Write dvc.yaml anew, after a change of runs.yaml, of an experiment's or a chapter's imports.

    Example: relcore pipeline
    """
    from .paths import require_checkout
    from .pipeline import write

    require_checkout()
    stages = write()
    emit(as_json, {"stages": stages}, f"dvc.yaml: {len(stages)} stages")


@app.command()
def claims(
    only: Annotated[str | None, typer.Option(help="One claim with its tests: S5, say.")] = None,
    ledger: Annotated[Path | None, typer.Option(help="Another ledger than claims.yml.")] = None,
    as_json: Json = False,
) -> None:
    """Check the claims ledger: what the paper says against what the shipped tables and weights
    give.

    Exit status 1 if a verdict is not the one that the ledger records.

    Example: relcore claims --only S5
    """
    from .claims import LEDGER, judge, load, record
    from .paths import require_checkout
    from .view.claims import held, interval

    require_checkout()
    written = load(ledger or LEDGER)
    if only and only not in {claim["id"] for claim in written}:
        raise RelcoreError(
            f"no claim '{only}': choose from {', '.join(claim['id'] for claim in written)}"
        )
    judged = [judge(claim) for claim in written if only in (None, claim["id"])]
    lines = []
    for claim in judged:
        lines.append(f"{claim['id']:4}{claim['computed']:16}{held(claim):10}{claim['claim']}")
        if only:
            lines += [
                f"    {c['what']}, {c['model']}: {interval(c)}; wanted {c['wanted']}: "
                f"{c['verdict']}"
                for c in claim["checks"]
            ]
            lines += [f"    paper: {claim['number']}", f"    {claim['note']}"]
    emit(as_json, {"claims": [record(claim) for claim in judged]}, "\n".join(lines))
    if changed := [claim for claim in judged if claim["computed"] != claim["verdict"]]:
        told = "; ".join(
            f"{c['id']} is now '{c['computed']}', recorded as '{c['verdict']}'" for c in changed
        )
        typer.echo(
            f"relcore: {told}: find out what changed, then write the new verdict and its reason "
            "into the ledger",
            err=True,
        )
        raise typer.Exit(1)


@app.command()
def bench(
    preset: Annotated[str, typer.Option(help="Size of the model.")] = "micro",
    compiled: Annotated[
        bool, typer.Option("--compile", help="Time both sides compiled, too: minutes more.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Measure this machine: training throughput, its share of the GEMM peak, sampling, the scorer.

    Example: relcore bench --json
    """
    from .bench import run_bench, table

    value = run_bench(preset, compiled=compiled)
    emit(as_json, value, table(value))


def main() -> None:
    """Entry point: as the app, but a RelcoreError is one line and exit status 2."""
    sys.stdout.reconfigure(errors="replace")  # not every locale has "²"
    debug = "--debug" in sys.argv
    sys.argv = [a for a in sys.argv if a != "--debug"]
    try:
        app()
    except RelcoreError as error:
        if debug:
            raise
        # One line, with its doubled spaces: they may be what is wrong with a prompt.
        line = " ".join(part.strip() for part in str(error).splitlines())
        print(f"relcore: {line}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # the reader of our output has gone, as in `relcore models | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
