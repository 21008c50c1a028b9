"""The performance table of this machine: medians of at least five calls after warm-up, ratios
within one run.

`relcore bench` prints it in markdown, with --json as JSON. What is compared takes turns, round by
round, and a ratio is the median over rounds: with other work on the machine seconds wander, ratios
less so. The peer is diffusers' PixArtTransformer2DModel of the same size (layers, width, heads,
tokens, text) in the same precision: bf16 products where the machine has units for them, else fp32.
It runs as it comes, with torch's fused attention, and with
attention written out, faster on a CPU: `..._best` is against the faster of the two. With --compile
    both sides are timed
compiled as well: `..._compiled` is ours compiled against the peer as it comes, `..._both_compiled`
    against it compiled.
"""

import importlib.util
import os
import platform
import re
import statistics
import time
from collections.abc import Callable
from functools import partial
from operator import truediv
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from .data.encoders import make_encoder
from .data.prompts import CANONICAL, caption, suite
from .data.scenes import render, sample_scenes
from .data.scoring import detect
from .errors import require
from .kernels.capture import capture
from .kernels.circuits import screen
from .kernels.synopsis import memory, synopsis
from .model.checkpoints import find, load_model
from .model.diffusion import IDDPM, RectifiedFlow, fast_precision, sample, to_signal, training_loss
from .model.dit import D_HEAD, PRESETS, DiT, DiTConfig
from .model.optim import make_optimizers

Work = Callable[[], object]
SQUARE = 1536  # rows of a matrix whose square gets the most FLOP/s
DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
COMPILED = "diffusers_compiled"
# Its default comes first.
PEERS = {"diffusers": "AttnProcessor2_0", "diffusers_written_out": "AttnProcessor"}
# Rte-micro is then as accurate as drawn like the peer.
EQUAL = {"steps": 7, "guidance": 6.0, "guided_until": 0.1}


def compare(*works: Work, repeats: int = 7) -> list[list[float]]:
    """Wall times of each work's calls, after two that are not counted; works take turns: all meet
    the same load.
    """
    times: list[list[float]] = [[] for _ in works]
    for _ in range(repeats + 2):
        for work, mine in zip(works, times, strict=True):
            start = time.perf_counter()
            work()
            mine.append(time.perf_counter() - start)
    return [mine[2:] for mine in times]


def seconds(work: Work, repeats: int = 7) -> float:
    return statistics.median(compare(work, repeats=repeats)[0])


def ratio(above: list[float], below: list[float]) -> float:
    """Median over rounds of one work's time by another's."""
    return statistics.median(map(truediv, above, below))


def kernels(pictures: int = 16) -> tuple[dict, dict]:
    """Ratios and seconds of the kernels, on rte-micro (the synopsis needs pictures that show their
    prompts).

    capture_on, capture_off: sampling with the synopsis, and within an empty capture, against
        sampling alone.
    synopsis_memory: what it holds at peak for 960 pictures against all their maps; by_step: with
        every step kept.
    """
    model, encoder = load_model("rte-micro")[0], make_encoder("rte")
    prompts, seeds = suite(CANONICAL)[:pictures], list(range(pictures))
    draw = partial(sample, model, encoder, prompts, seeds)
    captured = capture(model)(draw)  # as a decorator: a new one around every call
    held = {how: memory(model, encoder, suite(CANONICAL), over_steps=how) for how in (None, "mean")}
    share = {how: bytes_["reduction"] / bytes_["maps"] for how, bytes_ in held.items()}
    plain, on, off = compare(draw, lambda: synopsis(model, encoder, prompts, [0]), captured)
    ratios = {
        "capture_on": ratio(on, plain),
        "capture_off": ratio(off, plain),
        "synopsis_memory": share["mean"],
        "synopsis_memory_by_step": share[None],
    }
    return ratios, {"screen": seconds(lambda: screen(model, encoder), repeats=5)}


def peer(config: DiTConfig, processor: str):
    """diffusers' PixArt of this size. processor: "AttnProcessor2_0" (fused, its default) or
    "AttnProcessor".
    """
    import diffusers

    model = diffusers.PixArtTransformer2DModel(
        num_attention_heads=config.heads,
        attention_head_dim=D_HEAD,
        num_layers=config.depth,
        in_channels=3,
        out_channels=3,
        sample_size=config.image_size,
        patch_size=config.patch,
        cross_attention_dim=config.width,
        caption_channels=config.text_dim,
    )
    model.set_attn_processor(getattr(diffusers.models.attention_processor, processor)())
    return model


def compiled_peer(config: DiTConfig):
    """The peer with attention written out, the faster of its two, compiled as a whole."""
    model = peer(config, PEERS["diffusers_written_out"])
    model.compile(dynamic=True)
    return model


def training(
    config: DiTConfig, batch: int, precision: str, peers: dict[str, str], compiled: bool = False
) -> tuple[dict, dict]:
    """Ratios and seconds of a training step on `batch` pictures: forward, backward and optimiser;
    no data, no EMA.

    Ours is the recipe's, with Muon. The peer has its own objective, IDDPM's, through the same
    `training_loss`, fp32 weights as ours, and torch's fused AdamW. gemm_peak_share: our products'
    FLOP/s against those of a large square one.
    """
    rng, generator = np.random.default_rng(0), torch.Generator().manual_seed(0)
    scenes = sample_scenes(batch, rng)
    image, text = (
        to_signal(torch.from_numpy(render(scenes))),
        make_encoder("rte").encode(caption(scenes, rng)),
    )
    noise, dtype = torch.randn(image.shape, generator=generator), DTYPES[precision]

    def work(network, process, optimizers) -> Work:
        t = process.training_times(batch, generator)

        def step() -> None:
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
                loss = training_loss(network, process, image, text, t, noise)
            loss.backward()
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad()

        return step

    def ours(model: DiT) -> Work:
        return work(model, process, make_optimizers(model, "muon", 1e-3, 0.02, dtype))

    def theirs(model) -> Work:
        def network(x, t, text):
            return model(
                x,
                encoder_hidden_states=text.embeddings,
                encoder_attention_mask=text.mask,
                timestep=(1000 * (1 - t) - 1).round().long(),
                return_dict=False,
            )[0]

        return work(network, IDDPM(), [torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)])

    process, square = RectifiedFlow(), torch.randn(SQUARE, SQUARE, dtype=dtype)
    works = {
        "relcore": ours(DiT(config)),
        "relcore_no_optimizer": work(DiT(config), process, []),
        "gemm": partial(torch.mm, square, square),
        **{name: theirs(peer(config, processor)) for name, processor in peers.items()},
    }
    if compiled:
        works["compiled"] = ours(DiT(config).compiled())
        works |= {COMPILED: theirs(compiled_peer(config))} if peers else {}
    with FlopCounterMode(display=False) as counter:
        works["relcore_no_optimizer"]()
    # Matrix products of forward and backward, attention's included.
    of_step = counter.get_total_flops()
    times = dict(zip(works, compare(*works.values()), strict=True))
    ratios, medians = summed_up("train", times, peers)
    for of, name in (("", "relcore"), ("_without_optimizer", "relcore_no_optimizer")):
        ratios[f"gemm_peak_share{of}"] = of_step / 2 / SQUARE**3 * ratio(times["gemm"], times[name])
    return ratios, medians


def summed_up(what: str, times: dict[str, list[float]], peers: dict[str, str]) -> tuple[dict, dict]:
    """The peer's time by ours: as it comes, `..._best` at its fastest, `..._equal` by our `equal`;
    median seconds.
    """
    first, every = list(peers)[:1], list(peers)
    wanted = {
        "": ("relcore", first),
        "_best": ("relcore", every),
        "_equal": ("equal", every),
        "_compiled": ("compiled", first),
        "_both_compiled": ("compiled", [COMPILED]),
        "_equal_compiled": ("equal_compiled", every),
    }
    ratios = {
        f"{what}_vs_diffusers{key}": min(ratio(times[name], times[ours]) for name in theirs)
        for key, (ours, theirs) in wanted.items()
        if theirs and {ours, *theirs} <= times.keys()
    }
    return ratios, {f"{what}_{name}": statistics.median(mine) for name, mine in times.items()}


def sampling(
    config: DiTConfig, pictures: int, precision: str, peers: dict[str, str], compiled: bool = False
) -> tuple[dict, dict]:
    """Ratios and seconds of drawing a batch: our `sample` by default and with EQUAL, the peer by
    its own pipeline.

    The peer draws as in the paper, 14 steps of DPM-Solver++ guided by 4.5 to the end; weights in
    bf16 where it is fast; no text encoder, no VAE. Accuracy is judged on our own rte-micro, drawn
    with either setting: see EQUAL.
    """
    encoder, prompts = make_encoder("rte"), suite(CANONICAL)[:pictures]
    text = encoder.encode([*prompts, ""])
    # The last row is the empty prompt's.
    words, mask = text.embeddings.to(DTYPES[precision]), text.mask
    size = 8 * config.image_size  # the pipeline counts on a VAE with pixels eight times as fine

    def ours(model: DiT, **options) -> Work:
        return partial(
            sample,
            model.eval(),
            encoder,
            prompts,
            list(range(len(prompts))),
            precision=precision,
            **options,
        )

    def theirs(network) -> Work:
        import diffusers

        network, scheduler = network.to(words.dtype).eval(), diffusers.DPMSolverMultistepScheduler()
        pipeline = diffusers.PixArtSigmaPipeline(None, None, None, network, scheduler)
        pipeline.set_progress_bar_config(disable=True)
        return partial(
            pipeline,
            None,
            None,
            prompt_embeds=words[:-1],
            prompt_attention_mask=mask[:-1],
            height=size,
            width=size,
            negative_prompt_embeds=words[-1:].expand_as(words[:-1]),
            guidance_scale=4.5,
            num_inference_steps=14,
            negative_prompt_attention_mask=mask[-1:].expand_as(mask[:-1]),
            use_resolution_binning=False,
            output_type="latent",
        )

    model = DiT(config)
    works = {
        "relcore": ours(model),
        "equal": ours(model, **EQUAL),
        **{name: theirs(peer(config, processor)) for name, processor in peers.items()},
    }
    if compiled:
        fast = DiT(config).compiled()
        works |= {"compiled": ours(fast), "equal_compiled": ours(fast, **EQUAL)}
        works |= {COMPILED: theirs(compiled_peer(config))} if peers else {}
    times = dict(zip(works, compare(*works.values(), repeats=5), strict=True))
    return summed_up("sample", times, peers)


def run_bench(
    preset: str = "micro", batch: int = 64, pictures: int = 32, compiled: bool = False
) -> dict:
    """Training step, sampling, scorer, renderer and kernels, in one process on all its threads.

    Without diffusers, and transformers for its pipeline, its ratios are left out, and `left_out`
    says so.
    load: processes running, ours included.
    """
    require("preset", preset, PRESETS)
    find("rte-micro")  # `kernels` needs it
    precision, config, rng = fast_precision(), PRESETS[preset], np.random.default_rng(0)
    peers = PEERS if all(map(importlib.util.find_spec, ("diffusers", "transformers"))) else {}
    parts = [
        training(config, batch, precision, peers, compiled),
        sampling(config, pictures, precision, peers, compiled),
        kernels(),
    ]
    ratios, times = ({k: v for part in parts for k, v in part[i].items()} for i in (0, 1))
    info, scenes, few = Path("/proc/cpuinfo"), sample_scenes(500, rng), sample_scenes(batch, rng)
    names = (
        re.findall(r"model name\s*: (.*)", info.read_text(encoding="utf-8"))
        if info.exists()
        else []
    )
    truth = {size: list(render(scenes, size)) for size in (64, 128)}
    scores = {
        size: len(scenes) / seconds(lambda size=size: [detect(p) for p in truth[size]])
        for size in truth
    }
    return {
        "machine": {
            "processor": [*names, platform.machine()][0],
            "cores": os.cpu_count(),
            "load": round(os.getloadavg()[0], 1),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "precision": precision,
        },
        "preset": preset,
        "params": sum(p.numel() for p in DiT(config).parameters()),
        "gemm_peak_gflops": 2 * SQUARE**3 / times["train_gemm"] / 1e9,
        "train_images_per_second": batch / times["train_relcore"],
        "sample_images_per_second": pictures / times["sample_relcore"],
        "ratios": ratios,
        "seconds": times,
        "scorer_images_per_second": scores[64],
        "scorer_images_per_second_128": scores[128],
        "render_images_per_second": batch / seconds(lambda: render(few)),
        **(
            {}
            if peers
            else {
                "left_out": "the ratios against diffusers: pip install 'relcore[peers]' brings them"
            }
        ),
    }


def table(value: dict) -> str:
    """What `run_bench` returns, as markdown."""
    rows = {
        **value["ratios"],
        **value,
        **{f"{name}, seconds": t for name, t in value["seconds"].items()},
    }
    lines = [
        f"| {name} | {number:.4g} |"
        for name, number in rows.items()
        if isinstance(number, int | float)
    ]
    where = ", ".join(f"{name} {entry}" for name, entry in value["machine"].items())
    return "\n".join(
        [f"{where}. {value.get('left_out', '')}", "", "| measure | value |", "|---|---|", *lines]
    )
