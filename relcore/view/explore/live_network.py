"""The network in the page: drawn, taken apart and judged by the reader's browser, without a kernel.

`write_part` makes the file that the page loads for a network; `live` is the figure. What the page
needs of Python's grammar, scorer and sampler is handed over as tables: nothing is written twice
that Python can tell.
"""

import base64
import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure
from safetensors.torch import save
from torch import Tensor

from ...data import scoring
from ...data.encoders import END
from ...data.prompts import (
    FILLERS,
    GRAMMAR,
    PHRASE_PATTERN,
    PHRASE_RELATION,
    PHRASES,
    REFUSALS,
    ROLES,
    SYNONYMS,
    suite,
)
from ...data.scenes import CANVAS, COLORS, RELATIONS, SHAPES, THRESHOLD
from ...face import Model, load
from ...files import replacing
from ...kernels.interventions import REFERENCE_SEEDS, heads_of, reference
from ...model.diffusion import SAMPLERS, guides
from ...model.export import export
from ...paths import NOTEBOOKS
from .base import HERE, Explorable, picture_url, source, titled

PLAN = {"steps": 18, "guidance": 4.0, "guided_until": 0.2}
SAMPLING = PLAN | {"precision": "fp32"}  # as the page computes
MEANT = suite()[::3]  # the prompts whose pictures a head's mean is taken over: 4 of each relation
SIZES = "sizes.js"


def tables() -> dict:
    """Grammar, sentences and the scorer's constants, for `live_engine.js`."""
    return {
        "colors": COLORS,
        "shapes": SHAPES,
        "relations": RELATIONS,
        "roles": ROLES,
        "synonyms": SYNONYMS,
        "fillers": sorted(FILLERS),
        "phrases": {phrase: RELATIONS.index(r) for phrase, r in PHRASE_RELATION.items()},
        "pattern": PHRASE_PATTERN.pattern,
        "refusals": REFUSALS,
        "grammar": GRAMMAR,
        "offered": [phrase for phrases in PHRASES.values() for phrase in phrases],
        "scorer": {
            "canvas": CANVAS,
            "threshold": THRESHOLD,
            "level": scoring.LEVEL,
            "area": scoring.MIN_AREA,
            "polygon": scoring.POLYGON,
            "sides": scoring.SQUARE_SIDES,
            "margin": scoring.COLOR_MARGIN,
        },
    }


def schedule(process, steps: int, guidance: float, guided_until: float) -> dict:
    """What the default sampler does, told by itself: t [step], guided [step], guidance, weights.

    Every step's noisy picture is a weighted sum of the noise and of the clean pictures estimated
    before: weights[step] has 1 + step numbers. They are read off by sampling unit vectors.
    """
    units = torch.eye(steps + 1, dtype=torch.float64)[:, None]  # [the noise, then each estimate]
    weights, times = [], process.sampling_times(steps)

    def keep(now):
        weights.append(now["x"][0, : now["step"] + 1].tolist())

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        return units[len(weights) + 1]

    SAMPLERS["dpm"](denoise, process, units[0], times, keep)
    return {
        "t": times[:-1].tolist(),
        "guided": [guides(process, t, guidance, guided_until) for t in times[:-1]],
        "guidance": guidance,
        "weights": weights,
    }


def _text(encoder) -> tuple[dict[str, Tensor], dict]:
    """What the page needs of an encoder: its training prompts' vectors, or those of its words."""
    if encoder.contextual:
        prompts = [*suite(PHRASES), ""]
        rows = [encoder.raw(prompt) for prompt in prompts]
        vectors = {
            "vectors": torch.cat([vector for vector, _ in rows]).half(),
            "roles": torch.cat([roles for _, roles in rows]).to(torch.int8),
            "lengths": torch.tensor([len(roles) for _, roles in rows]),
            "mean": encoder.mean,
        }
        return vectors, {"prompts": prompts, "scale": encoder.scale}
    spoken = {word for phrase in PHRASE_RELATION for word in phrase.split()}
    words = [*sorted({*spoken, *COLORS, *SHAPES, *SYNONYMS, *FILLERS}), END]
    vectors = torch.stack([encoder.word(word) for word in words])
    return {"words": vectors, "positions": encoder.positions}, {"words": words}


def _means(model: Model) -> dict[str, Tensor]:
    """Every cross-attention head's mean z, in 8 bits: of the conditional pass at every step, then
    of the unconditional one at every guided step; int8 [pass, layer, head, image, d_head], and what
    127 stands for [pass, layer, head].
    """
    heads = heads_of(model.network, ["cross_attn"])
    kept = reference(
        model.network, model.encoder, MEANT, REFERENCE_SEEDS, heads, **model.how(**SAMPLING)
    )
    layers = range(model.network.config.depth)
    steps = range(SAMPLING["steps"])
    passes = [(0, step) for step in steps] + [
        (1, step) for step in steps if len(kept["blocks.0.cross_attn.z", step]) > 1
    ]
    z = torch.stack(
        [
            torch.stack([kept[f"blocks.{layer}.cross_attn.z", step][branch, 0] for layer in layers])
            for branch, step in passes
        ]
    )
    size = z.abs().amax((-2, -1)).clamp(min=1e-9)
    return {"means": (127 * z / size[..., None, None]).round().to(torch.int8), "sizes": size}


def write_part(model: Model, path: Path) -> None:
    """Write what the page loads to draw with a network: a script of a few MB.

    It holds the ONNX graph, the encoder's vectors, the sampler's schedule and every head's mean,
    as a safetensors file, compressed and in letters: a page opened from disk may load scripts, but
    no other files. Raises RelcoreError without the extra "page".
    """
    config, vectors, header = model.network.config, *_text(model.encoder)
    with TemporaryDirectory() as folder:
        graph = Path(folder) / "graph.onnx"
        export(model.network, model.process, graph)
        tensors = {"graph": torch.frombuffer(bytearray(graph.read_bytes()), dtype=torch.uint8)}
    tensors |= {**vectors, **_means(model)}
    header |= {"schedule": schedule(model.process, **PLAN), "size": config.image_size}
    header |= {"dim": config.text_dim, "layers": config.depth, "heads": config.heads}
    header |= {"tokens": config.grid**2}
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    packed = gzip.compress(save(tensors, {"relcore": json.dumps(header)}), 9, mtime=0)
    with replacing(path) as temporary:
        letters = base64.b64encode(packed).decode()
        script = f'(window.relcoreParts ??= {{}})["{model.name}"] = "{letters}";\n'
        temporary.write_text(script, encoding="utf-8")


def networks_shown() -> list[str]:
    """The networks that run in the pages of the notebooks, by their stored widgets."""
    names = set()
    for notebook in NOTEBOOKS.glob("*.ipynb"):
        stored = json.loads(notebook.read_text(encoding="utf-8"))["metadata"].get("widgets", {})
        states = [model["state"] for part in stored.values() for model in part["state"].values()]
        shown = [state["data"].get("networks", []) for state in states if "data" in state]
        names |= {network["part"] for part in shown for network in part if "part" in network}
    return sorted(names)


def write_parts(folder: Path, names: Sequence[str]) -> dict[str, int]:
    """Write the parts of networks beside `ort.js`, which runs them, and `sizes.js`, which tells a
    page what there is: {file: bytes}.
    """
    for name in names:
        write_part(load(name), folder / f"{name}.js")
    files = [file for file in sorted(folder.glob("*.js")) if file.name != SIZES]
    sizes = {file.name: file.stat().st_size for file in files}
    with replacing(folder / SIZES) as temporary:
        temporary.write_text(f"window.relcoreSizes = {json.dumps(sizes)};\n", encoding="utf-8")
    return {str(folder / name): size for name, size in sizes.items()}


class Live(Explorable):
    """A figure of `live`."""

    _esm = source("live_engine", "live_worker", "live")
    _css = Explorable._css + (HERE / "live.css").read_text(encoding="utf-8")


def live(models: Sequence[Model], examples: Sequence[tuple[str, str, int]]) -> Live:
    """The networks themselves, to draw with in the page and to take apart there, without a kernel.

    examples: one a network, (head, prompt, seed), such as ("L3H2", "red square is above blue
    circle", 0): drawn here with and without that head, and shown until the reader loads the
    network. `make book` makes what the page loads: `write_parts`. Raises RelcoreError for a head
    that a network lacks, or a prompt that cannot be read.
    """
    networks, stills = [], []
    for model, (name, prompt, seed) in zip(models, examples, strict=True):
        head = model.head(name)
        changes = (None, model.ablate(head, prompts=MEANT, **SAMPLING))
        pair = [model.draw(prompt, seed, intervention=c, **SAMPLING)[0] for c in changes]
        stills.append(pair)
        networks.append(
            {
                "part": model.name,  # the file that the page loads
                "title": titled(model),
                "shape": [model.network.config.depth, model.network.config.heads],
                "tokens": model.network.config.grid**2,
                "head": [head.layer, head.head],
                "prompt": prompt,
                "seed": seed,
                "example": [picture_url(picture) for picture in pair],
            }
        )
    data = {"networks": networks, "tables": tables(), "steps": SAMPLING["steps"]}
    chosen = {"network": 0, "hidden": [], "by": "mean", "side": 0, "step": SAMPLING["steps"] - 1}
    name, prompt, _ = examples[0]
    alt = (
        f"Two pictures of '{prompt}' from the same noise: drawn by {titled(models[0])} as it was "
        f"trained, and without its head {name}."
    )
    return Live(data, chosen, alt, lambda: _still(prompt, name, stills[0]))


def _still(prompt: str, head: str, pictures: Sequence) -> Figure:
    figure, axes = plt.subplots(1, 2, figsize=(6, 3.2))
    for axis, picture, title in zip(
        axes, pictures, ("as trained", f"without head {head}"), strict=True
    ):
        [seen] = [", ".join(scoring.describe(scoring.detect(picture)))]
        axis.imshow(picture)
        axis.set_title(title, fontsize=10)
        axis.set_xlabel(seen, fontsize=9)
        axis.set(xticks=[], yticks=[])
    figure.suptitle(prompt, fontsize=11)
    return figure
