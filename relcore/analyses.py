"""The commands that take a model apart: `relcore fusion`, `synopsis`, `screen`, `ablate`, `rewire`,
`robustness`.
"""

from functools import cache
from pathlib import Path
from typing import Annotated

import typer

from .errors import RelcoreError, require
from .options import (
    Compiled,
    Guidance,
    GuidedUntil,
    Json,
    Model,
    Out,
    Seed,
    Steps,
    command_line,
    emit,
    open_model,
    phrases_of,
    sampling_of,
    table_option,
    writing,
)


def fusion(
    model: Model = "e5-micro",
    out: Annotated[
        Path | None, table_option("Also write every measure to this parquet file.")
    ] = None,
    as_json: Json = False,
) -> None:
    """How much of each word is the relation, as the encoder gives it and after the model's caption
    MLP.

    Example: relcore fusion --model e5-micro
    """
    import pandas as pd

    from .kernels import factors

    network, _, encoder, _ = open_model(model)
    stages = {"as encoded": None, "after the caption MLP": network.caption_mlp}
    table = pd.concat(
        [factors.fusion(encoder, mlp).assign(where=where) for where, mlp in stages.items()],
        ignore_index=True,
    )
    shown = table.pivot(index=["measure", "token"], columns="where", values="value")[list(stages)]
    emit(
        as_json,
        {"model": model, "words": table.to_dict("records")},
        shown.to_string(float_format="%.3f"),
        writing(out, table, model),
    )


def synopsis(
    model: Model = "rte-micro",
    number: Annotated[
        int, typer.Option("-n", min=1, help="Pictures a prompt (96 canonical prompts).")
    ] = 1,
    out: Annotated[
        Path | None,
        table_option(
            "Also write every reduction of the maps (by step, their mean, the "
            "paper's) to this parquet file: three runs."
        ),
    ] = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Where every cross-attention head looks: attention from objects to kinds of words, averaged
    over the steps.

    Example: relcore synopsis --model rte-micro --json
    """
    from .data.prompts import suite
    from .kernels import synopsis as kernel
    from .model.diffusion import fast_precision

    network, _, encoder, process = open_model(model)
    data = (network, encoder, suite(), range(seed, seed + number))
    options = {"process": process, "precision": fast_precision(), "progress": f"synopsis {model}"}
    if out:
        rows = kernel.reductions(*data, **options)
        table = rows[rows.reduction == "mean"].drop(columns="reduction")
    else:
        rows = table = kernel.synopsis(*data, over_steps="mean", **options)
    heads = table.drop(columns="step").to_dict("records")
    text = "\n\n".join(
        f"{role}\n{kernel.profile(table, role).to_string(index=False, float_format='%.3f')}"
        for role in ("object1", "object2")
    )
    emit(
        as_json,
        {"model": model, "heads": heads, **table.attrs},
        text,
        writing(out, rows, model, seed),
    )


def screen(
    model: Model = "rte-micro",
    token: Annotated[
        list[str] | None,
        typer.Option(
            help="relation, words, color1, shape1, color2 or shape2; several "
            "may be given, relation or all that fit if not."
        ),
    ] = None,
    centred: Annotated[bool, typer.Option(help="Take out what all relations share.")] = False,
    null: Annotated[str, typer.Option(help="shuffled, words or untrained.")] = "shuffled",
    along: Annotated[
        bool, typer.Option("--along", help="Every snapshot of a run trained with --snapshots.")
    ] = False,
    out: Annotated[
        Path | None,
        table_option(
            "Also write these rows, and without --along those of each relation, "
            "to this parquet file."
        ),
    ] = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Find the heads that turn a relation into a direction, from the weights alone.

    A cosine of 1 marks the side where object 1 belongs, -1 that of object 2. Random token
    embeddings of colours and shapes say nothing of the relation, so RTE is screened on its relation
    words.

    Example: relcore screen --model e5-micro --token color2
    """
    import pandas as pd

    from .kernels import circuits

    network, _, encoder, _ = open_model(model)
    tokens = token or (
        [t for t in circuits.TOKENS if t != "words"] if encoder.contextual else ["relation"]
    )
    options = {"centred": centred, "null": null, "seed": seed}
    if along:
        heads = circuits.along_training(Path(model), tokens, **options)
    else:
        table = pd.concat([circuits.screen(network, encoder, t, **options) for t in tokens])
        heads = table[table.relation == "mean"].drop(columns=["vector", "relation"])
    rows = (heads if along else table).reset_index(drop=True)
    text = heads.sort_values("cosine", key=abs, ascending=False).to_string(
        index=False, float_format="%.3f"
    )
    emit(
        as_json,
        {"model": model, "heads": heads.to_dict("records")},
        text,
        writing(out, rows, model, seed),
    )


def ablate(
    model: Model = "rte-micro",
    head: Annotated[
        list[str] | None, typer.Option(help="L3H2, say; several are ablated together.")
    ] = None,
    every: Annotated[bool, typer.Option("--every", help="Each head in turn, a sweep.")] = False,
    attention: Annotated[
        str, typer.Option(help="cross or self; with --every also both.")
    ] = "cross",
    method: Annotated[str, typer.Option(help="mean, resample or zero.")] = "mean",
    mask: Annotated[
        list[str] | None, typer.Option(help="Hide the words of a role: relation, shape1 ...")
    ] = None,
    during: Annotated[
        str | None, typer.Option(help="Hide them only at these steps, from 0 on: 0-5, say.")
    ] = None,
    number: Annotated[
        int, typer.Option("-n", min=1, help="Pictures a prompt (96 canonical prompts).")
    ] = 1,
    out: Out = None,
    seed: Seed = 0,
    steps: Steps = 18,
    guidance: Guidance = 4.0,
    guided_until: GuidedUntil = 0.2,
    compiled: Compiled = False,
    as_json: Json = False,
) -> None:
    """What a head is for: draw without it, or without some words, and score against the same
    pictures with all.

    Example: relcore ablate --model rte-micro --head L3H2 --method mean
    """
    from .data.prompts import suite
    from .data.scoring import METRICS, summarise
    from .kernels import interventions as kernel
    from .model.checkpoints import digest

    kinds = {"cross": ["cross_attn"], "self": ["attn"], "both": ["cross_attn", "attn"]}
    if attention not in kinds or (attention == "both" and not every):
        raise RelcoreError(
            f"unknown attention '{attention}': choose cross or self, or both with --every"
        )
    require("method", method, kernel.METHODS)
    if bool(head) + every + bool(mask) != 1:
        raise RelcoreError("say what to take away: one of --head L3H2, --every, --mask relation")
    network, _, encoder, process = open_model(model, compiled)
    sampling = sampling_of(process, steps, guidance, guided_until)
    when = _steps(during, steps) if during else None
    if when and not mask:
        raise RelcoreError("--during goes with --mask")
    if mask:
        what = " ".join(mask) + (f", {when[0]}-{when[-1]}" if when else "")
        runs = {what: kernel.mask_tokens(mask, when)}
    else:
        heads = (
            kernel.heads_of(network, kinds[attention])
            if every
            else [kernel.find_head(network, name, kinds[attention][0]) for name in head]
        )
        # Drawn once, and not at all if the file holds every run or cannot be gone on with.
        pool = cache(
            lambda: kernel.reference_for(
                network, encoder, heads, method, progress="reference", **sampling
            )
        )
        groups = [[h] for h in heads] if every else [heads]
        runs = {
            " ".join(map(str, group)): lambda batch, group=group: kernel.ablate(group, pool())(
                batch
            )
            for group in groups
        }
        what = None if every else next(iter(runs))
    table = kernel.sweep(
        network,
        encoder,
        {"none": None, **runs},
        suite(),
        range(seed, seed + number),
        out,
        {"checkpoint": digest(model), "method": None if mask else method},
        command=command_line(),
        progress=f"ablate {model}",
        **sampling,
    )
    scores = {name: summarise(rows) for name, rows in table.groupby("intervention", sort=False)}
    changes = kernel.outcomes(table).pivot(
        index="intervention", columns="metric", values=["value", "change"]
    )
    value = {
        "model": model,
        "head": what,
        "method": "mask" if mask else method,
        "baseline": scores["none"],
    }
    value |= {"ablated": scores[what]} if what else {"heads": {name: scores[name] for name in runs}}
    shown = changes.loc[list(scores), [(kind, m) for kind in ("value", "change") for m in METRICS]]
    shown = shown.rename(columns=lambda name: name.replace("relation_", ""))
    emit(
        as_json,
        value,
        f"{shown.to_string(float_format='%.3f')}\nn = {len(table) // len(scores)} pictures each",
    )


def _steps(during: str, steps: int) -> range:
    """The sampling steps of --during: 3 or 0-5."""
    first, _, last = during.partition("-")
    if not (
        first.isdecimal()
        and (last or first).isdecimal()
        and int(first) <= int(last or first) < steps
    ):
        raise RelcoreError(
            f"'{during}' is no range of steps: write 0-5 for the first six of {steps}"
        )
    return range(int(first), int(last or first) + 1)


def rewire(
    model: Model = "e5-micro",
    word: Annotated[
        list[str] | None,
        typer.Option(
            help="shape2, or 'color1 color2' to edit two together; several may "
            "be given, all single words if not."
        ),
    ] = None,
    strength: Annotated[
        list[float] | None, typer.Option(help="Of the relation put in; 1 if not given.")
    ] = None,
    number: Annotated[
        int, typer.Option("-n", min=1, help="Pictures a prompt (96 canonical) and target.")
    ] = 1,
    out: Out = None,
    seed: Seed = 0,
    steps: Steps = 18,
    guidance: Guidance = 4.0,
    guided_until: GuidedUntil = 0.2,
    compiled: Compiled = False,
    as_json: Json = False,
) -> None:
    """Tell single words another relation by vector arithmetic: whose relation do the pictures show?

    Example: relcore rewire --model e5-micro --word color2 --word shape2 --strength 3
    """
    from .data.prompts import suite
    from .kernels.arithmetic import arithmetic, obedience
    from .model.checkpoints import digest

    network, _, encoder, process = open_model(model, compiled)
    table = arithmetic(
        network,
        encoder,
        word or ["relation", "color1", "shape1", "color2", "shape2"],
        strength or [1.0],
        suite(),
        range(seed, seed + number),
        out,
        {"checkpoint": digest(model)},
        command=command_line(),
        progress=f"rewire {model}",
        **sampling_of(process, steps, guidance, guided_until),
    )
    shown = obedience(table)
    emit(
        as_json,
        {"model": model, "words": shown.to_dict("records")},
        shown.to_string(index=False, float_format="%.3f"),
    )


def robustness(
    model: Model = "rte-micro",
    template: Annotated[
        list[str] | None, typer.Option(help="is-the, say; several may be given, all if not.")
    ] = None,
    phrases: Annotated[
        str, typer.Option(help="all (264 prompts a suite) or canonical (96).")
    ] = "all",
    number: Annotated[int, typer.Option("-n", min=1, help="Pictures a prompt.")] = 1,
    out: Out = None,
    seed: Seed = 0,
    steps: Steps = 18,
    guidance: Guidance = 4.0,
    guided_until: GuidedUntil = 0.2,
    compiled: Compiled = False,
    as_json: Json = False,
) -> None:
    """What other words for the same request do to a model: articles, fillers, order, synonyms,
    spelling.

    Example: relcore robustness --model e5-micro --template train --template is-the
    """
    from .data.scoring import METRICS
    from .kernels import robustness as kernel
    from .model.checkpoints import digest

    for name in template or ():
        require("template", name, kernel.SUITES)
    network, _, encoder, process = open_model(model, compiled)
    suites = list(dict.fromkeys(["train", *template])) if template else kernel.SUITES
    table = kernel.robustness(
        network,
        encoder,
        range(seed, seed + number),
        suites,
        phrases=phrases_of(phrases),
        file=out,
        settings={"checkpoint": digest(model)},
        command=command_line(),
        progress=f"robustness {model}",
        **sampling_of(process, steps, guidance, guided_until),
    )
    drops = kernel.drops(table)
    shown = drops.pivot(index="suite", columns="metric", values="value").loc[
        list(suites), [*METRICS, "dx", "dy"]
    ]
    count = f"n = {drops.n.min()} to {drops.n.max()} pictures per suite"
    text = f"{shown.to_string(float_format='%.3f')}\n{count}"
    emit(as_json, {"model": model, "suites": drops.to_dict("records")}, text)
