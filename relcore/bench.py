"""The performance table of this machine: medians after warm-up, ratios within one run."""

import platform
import statistics
import time
from collections.abc import Callable
from operator import truediv

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from .data.encoders import make_encoder
from .data.prompts import CANONICAL, caption, suite
from .data.scenes import render, sample_scenes
from .data.scoring import detect
from .kernels.capture import capture
from .kernels.circuits import screen
from .kernels.synopsis import memory, synopsis
from .model.checkpoints import load_model
from .model.diffusion import RectifiedFlow, fast_precision, sample, to_signal, training_loss
from .model.dit import PRESETS, DiT
from .model.optim import make_optimizers


def compare(*works: Callable[[], object], repeats: int = 7) -> list[list[float]]:
    """Wall times of each work's calls, after two that are not counted; works take turns: all meet the same load."""
    times: list[list[float]] = [[] for _ in works]
    for _ in range(repeats + 2):
        for work, mine in zip(works, times, strict=True):
            start = time.perf_counter()
            work()
            mine.append(time.perf_counter() - start)
    return [mine[2:] for mine in times]


def seconds(work: Callable[[], object], repeats: int = 7) -> float:
    """Median wall time of one call."""
    return statistics.median(compare(work, repeats=repeats)[0])


def gemm_peak(dtype: torch.dtype, n: int = 1536) -> float:
    """FLOP/s of a large square product in this precision: the most the machine gives us."""
    a, b = torch.randn(n, n, dtype=dtype), torch.randn(n, n, dtype=dtype)
    return 2 * n**3 / seconds(lambda: a @ b)


def kernels(pictures: int = 16) -> tuple[dict, dict]:
    """Ratios and seconds of the kernels, on rte-micro (the synopsis needs pictures that show their prompts).

    capture_on, capture_off: sampling with the synopsis, and within an empty capture, against sampling alone.
    Each is the median over rounds in which all three ran. synopsis_memory: what the synopsis of 960 pictures holds at
    peak against all their maps, averaged over the steps; by_step: with every step kept.
    """
    model, encoder = load_model("rte-micro")[0], make_encoder("rte")
    prompts, seeds = suite(CANONICAL)[:pictures], list(range(pictures))

    def draw() -> None:
        sample(model, encoder, prompts, seeds)

    def draw_captured() -> None:
        with capture(model):
            draw()

    held = {how: memory(model, encoder, suite(CANONICAL), over_steps=how) for how in (None, "mean")}
    share = {how: bytes_["reduction"] / bytes_["maps"] for how, bytes_ in held.items()}
    plain, on, off = compare(draw, lambda: synopsis(model, encoder, prompts, [0]), draw_captured)
    ratios = {"capture_on": statistics.median(map(truediv, on, plain)),
              "capture_off": statistics.median(map(truediv, off, plain)),
              "synopsis_memory": share["mean"], "synopsis_memory_by_step": share[None]}  # fmt: skip
    return ratios, {"screen": seconds(lambda: screen(model, encoder), repeats=3)}


def run_bench(preset: str = "micro", batch: int = 64, pictures: int = 32) -> dict:
    """Training step, sampling, scorer, renderer and kernels, in one process on all its threads."""
    bf16, process, encoder = fast_precision() == "bf16", RectifiedFlow(), make_encoder("rte")
    model = DiT(PRESETS[preset])
    dtype = torch.bfloat16 if bf16 else torch.float32
    optimizers = make_optimizers(model, "muon", 1e-3, 0.02, dtype)
    rng, generator = np.random.default_rng(0), torch.Generator().manual_seed(0)
    scenes = sample_scenes(batch, rng)
    image = to_signal(torch.from_numpy(render(scenes)))
    t, noise = process.training_times(batch, generator), torch.randn(image.shape, generator=generator)
    text = encoder.encode(caption(scenes, rng))

    def forward_backward() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = training_loss(model, process, image, text, t, noise)
        loss.backward()

    def step() -> None:
        forward_backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()

    with FlopCounterMode(display=False) as counter:
        forward_backward()
    flops = counter.get_total_flops()  # matrix products of forward and backward, attention's included
    peak = gemm_peak(dtype)
    train, core = seconds(step), seconds(forward_backward)
    prompts = suite(CANONICAL)[:pictures]
    draw = seconds(lambda: sample(model.eval(), encoder, prompts, list(range(len(prompts)))), repeats=3)
    scores = {}
    for size in (64, 128):
        truth = list(render(sample_scenes(500, rng), size))
        scores[size] = len(truth) / seconds(lambda truth=truth: [detect(picture) for picture in truth])
    ratios, times = kernels()
    return {
        "machine": {"processor": platform.processor() or platform.machine(), "threads": torch.get_num_threads(),
                    "torch": torch.__version__, "precision": "bf16" if bf16 else "fp32"},
        "preset": preset, "params": sum(p.numel() for p in model.parameters()),
        "gemm_peak_gflops": peak / 1e9,
        "train_images_per_second": batch / train,
        "sample_images_per_second": len(prompts) / draw,
        "ratios": {"gemm_peak_share": flops / train / peak, "gemm_peak_share_without_optimizer": flops / core / peak,
                   **ratios},
        "seconds": times,
        "scorer_images_per_second": scores[64], "scorer_images_per_second_128": scores[128],
        "render_images_per_second": batch / seconds(lambda: render(scenes)),
    }  # fmt: skip
