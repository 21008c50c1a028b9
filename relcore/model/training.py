"""The training loop: one process on a CPU, one GPU or many nodes, by the same command.

Everything random in step k is drawn from (seed, k), so a resumed run continues to the same bits
and the global batch does not depend on how many processes share it.

A run's folder holds: `config.json`, `state.safetensors` (to resume), `model.safetensors` (EMA
weights, fp32), `metrics.parquet` (tidy: samples, seconds, suite, metric, value, n) and `frames/`
(one strip of sample pictures an evaluation); if asked, `snapshots/` (the EMA weights at each
evaluation, bf16).
"""

import copy
import signal
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from tqdm import tqdm

from ..data.prompts import CANONICAL, FORMS, PHRASES, caption, compose, in_form, suite
from ..data.scenes import RELATIONS, render, sample_scenes
from ..data.scoring import METRICS
from ..errors import RelcoreError
from ..files import check_writable, read_tensors, replacing, write_json, write_png, write_tensors
from . import checkpoints
from .diffusion import fast_precision, sample, to_signal, training_loss
from .dit import PRESETS, DiT
from .evaluation import evaluate, processes
from .optim import ema_update, make_optimizers
from .recipe import TrainConfig, check, recipe_of

# How the pictures of the curves are drawn, that of the shipped ones: weaker than what `sample` does
# by default.
CURVES = {"steps": 14, "guidance": 2.0, "guided_until": 1.0}


class Run:
    """A training run in a folder: build or resume, `train()`, and the run's files."""

    def __init__(
        self,
        config: TrainConfig,
        folder: Path,
        resume: bool = False,
        snapshots: bool = False,
        compiled: bool = False,
    ):
        check(config)
        self.config, self.folder, self.snapshots = config, Path(folder), snapshots
        files = (
            "config.json",
            "state.safetensors",
            "model.safetensors",
            "metrics.parquet",
            "frames/0.png",
        )
        check_writable(*(self.folder / name for name in files))
        device = processes().device
        fast = fast_precision(device) == "bf16"
        self.accelerator = Accelerator(
            cpu=device.type == "cpu", mixed_precision="bf16" if fast else "no"
        )
        if config.batch % self.accelerator.num_processes:
            raise RelcoreError(
                f"batch {config.batch} is no multiple of the {self.accelerator.num_processes} "
                "processes"
            )
        self.encoder, self.process = config.make_encoder(), config.make_process()
        torch.manual_seed(config.seed)
        self.model = DiT(replace(PRESETS[config.preset], text_dim=self.encoder.dim)).to(
            self.accelerator.device
        )
        self.model = self.model.compiled() if compiled else self.model
        dtype = torch.bfloat16 if self.accelerator.mixed_precision == "bf16" else torch.float32
        self.optimizers = make_optimizers(
            self.model, config.optimizer, config.lr, config.muon_lr, dtype, config.caption_lr
        )
        # EMA: what is evaluated and shipped.
        self.average = copy.deepcopy(self.model).eval().requires_grad_(False)
        self.step, self.seconds, self.rows, self.losses = 0, 0.0, [], []
        state = self.folder / "state.safetensors"
        if resume and state.exists():
            self._load(state)
        elif state.exists():
            raise RelcoreError(
                f"'{self.folder}' holds a run already: add --resume to go on with it, or name "
                "another folder"
            )
        if self.accelerator.is_main_process:
            write_json(self.folder / "config.json", asdict(config))

    # --- state: model, EMA and optimiser moments as one flat dict of tensors ---------------------

    def _tensors(self) -> dict[str, torch.Tensor]:
        names = {p: n for n, p in self.model.named_parameters()}
        out = {f"model.{n}": p for p, n in names.items()}
        out |= {f"ema.{n}": p for n, p in self.average.named_parameters()}
        for optimizer in self.optimizers:
            kind = type(optimizer).__name__
            for p, state in optimizer.state.items():
                out |= {f"{kind}.{names[p]}.{key}": value for key, value in state.items()}
        return out

    def save(self) -> None:
        if not self.accelerator.is_main_process:
            return
        progress = {
            "step": self.step,
            "seconds": self.seconds,
            "rows": self.rows,
            "losses": self.losses,
        }
        header = {"config": asdict(self.config), **progress}
        write_tensors(self.folder / "state.safetensors", self._tensors(), header)

    def _load(self, path: Path) -> None:
        tensors, header = read_tensors(path)
        if "step" not in header:
            raise RelcoreError(f"'{path}' is not the state of a training run: name another folder")
        old, new = asdict(recipe_of({"recipe": header["config"]})), asdict(self.config)
        if changed := [k for k in new if k not in ("samples", "eval_every") and old[k] != new[k]]:
            raise RelcoreError(
                f"cannot resume '{path.parent}': "
                f"{', '.join(f'{k} was {old[k]}' for k in changed)}: "
                "give the same values, or another folder"
            )
        self.step, self.seconds, self.rows, self.losses = (
            header[k] for k in ("step", "seconds", "rows", "losses")
        )
        for optimizer in self.optimizers:
            kind = type(optimizer).__name__
            for name, p in self.model.named_parameters():
                prefix = f"{kind}.{name}."
                state = {
                    k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)
                }
                if state:  # AdamW keeps its step count on the CPU
                    optimizer.state[p] = {
                        k: v.to(p.device) if k != "step" else v for k, v in state.items()
                    }
        with torch.no_grad():
            for kind, network in (("model", self.model), ("ema", self.average)):
                for name, p in network.named_parameters():
                    p.copy_(tensors[f"{kind}.{name}"])

    # --- one step ------------------------------------------------------------------------------

    def batch(self) -> tuple:
        """This process's share of step k's batch: pictures, text, times, noise."""
        config, accelerator = self.config, self.accelerator
        share = config.batch // accelerator.num_processes
        mine = slice(accelerator.process_index * share, (accelerator.process_index + 1) * share)
        rng = np.random.default_rng([config.seed, self.step])
        scenes = sample_scenes(config.batch, rng)
        seen = self.step * config.batch
        left_out = config.left_out(seen, rng)
        captions = caption(scenes, rng, config.captions_at(seen), left_out)
        dropped = rng.random(config.batch) < config.drop_text
        text = self.encoder.encode(
            ["" if d else c for c, d in zip(captions, dropped, strict=True)][mine]
        )
        image = torch.from_numpy(render(scenes, self.model.config.image_size)[mine])
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        t = self.process.training_times(config.batch, generator)[mine]
        noise = torch.randn(config.batch, 3, *image.shape[1:3], generator=generator)[mine]
        device = accelerator.device
        return to_signal(image.to(device)), text.to(device), t.to(device), noise.to(device)

    def _step(self, parallel) -> torch.Tensor:
        rate = self.config.rate(self.step * self.config.batch)
        for group in (group for optimizer in self.optimizers for group in optimizer.param_groups):
            group["lr"] = group["peak"] * rate
        with self.accelerator.autocast():
            loss = training_loss(parallel, self.process, *self.batch())
        self.accelerator.backward(loss)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()
        ema_update(self.average, self.model, self.step)
        self.step += 1
        return loss.detach()

    # --- the loop ------------------------------------------------------------------------------

    def train(self, progress: bool = True) -> pd.DataFrame:
        """Train to `config.samples`; returns the metrics table. Ctrl-C saves, then raises
        RelcoreError.
        """
        config, accelerator, self.progress = self.config, self.accelerator, progress
        parallel = accelerator.prepare_model(self.model)
        stop = []
        handlers = {
            s: signal.signal(s, lambda *_: stop.append(1)) for s in (signal.SIGINT, signal.SIGTERM)
        }
        bar = tqdm(
            total=config.samples,
            initial=self.step * config.batch,
            unit="img",
            unit_scale=True,
            desc=self.folder.name,
            disable=not (progress and accelerator.is_main_process),
        )
        try:
            while self.step * config.batch < config.samples:
                begin = time.perf_counter()
                self.losses.append(float(self._step(parallel)))
                self.seconds += time.perf_counter() - begin
                bar.update(config.batch)
                bar.set_postfix(loss=f"{np.mean(self.losses[-50:]):.4f}", refresh=False)
                seen, stopping = self.step * config.batch, self._agreed(bool(stop))
                if seen % config.eval_every < config.batch or seen >= config.samples:
                    self._evaluate()
                if stopping:
                    self.save()
                    raise RelcoreError(
                        f"interrupted after {seen} samples; saved: go on with --resume --out "
                        f"{self.folder}"
                    )
        finally:
            bar.close()
            for number, handler in handlers.items():
                signal.signal(number, handler)
        return pd.DataFrame(self.rows)

    def _agreed(self, stop: bool) -> bool:
        """Whether any process was told to stop: all must leave the loop after the same step."""
        if self.accelerator.num_processes == 1:
            return stop
        return bool(
            self.accelerator.reduce(torch.tensor(int(stop), device=self.accelerator.device), "sum")
        )

    def _evaluate(self) -> None:
        loss = float(
            self.accelerator.reduce(
                torch.tensor(self.losses, device=self.accelerator.device).mean(), "mean"
            )
        )
        # Before anything is written: what the last evaluation saved is still good.
        if not np.isfinite(loss):
            raise RelcoreError("the loss is not a number any more: train with a smaller lr")
        self.losses, accelerator = [], self.accelerator
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            model, seen = self.average, self.step * self.config.batch
            self._note(seen, "train", "loss", loss, 0)  # no share of pictures: no n
            for name, prompts in evaluation_suites(self.config.captions).items():
                label = f"evaluate {name}" if self.progress else None
                table = evaluate(
                    model,
                    self.encoder,
                    prompts,
                    [0],
                    progress=label,
                    process=self.process,
                    precision=fast_precision(accelerator.device),
                    **CURVES,
                )
                for metric in METRICS:
                    self._note(seen, name, metric, float(table[metric].mean()), len(table))
            with replacing(self.folder / "metrics.parquet") as path:
                pd.DataFrame(self.rows).to_parquet(path)
            save_frame(
                self.folder / "frames" / f"{seen:09d}.png", model, self.encoder, self.process
            )
            header = {"recipe": asdict(self.config), "samples": seen}
            weights, snapshot = (
                model.state_dict(),
                self.folder / "snapshots" / f"{seen:09d}.safetensors",
            )
            checkpoints.save_model(
                self.folder / "model.safetensors", weights, model.config, header, torch.float32
            )
            if self.snapshots:
                checkpoints.save_model(snapshot, weights, model.config, header)
            self.save()
        self.accelerator.wait_for_everyone()

    def _note(self, samples: int, suite: str, metric: str, value: float, n: int) -> None:
        self.rows.append(
            {
                "samples": samples,
                "seconds": round(self.seconds, 1),
                "suite": suite,
                "metric": metric,
                "value": value,
                "n": n,
            }
        )


def evaluation_suites(captions: str) -> dict[str, list[str]]:
    """Prompts scored while training: 96 canonical ones, and 96 spread over the 264 if those are
    trained.

    With captions "paper": 66 prompts, three per phrase, in each of the four caption forms.
    """
    everything = suite(PHRASES)
    if captions == "paper":
        return {
            form: [in_form(prompt, form) for prompt in spread(everything, 66)] for form in FORMS
        }
    suites = {"canonical": suite(CANONICAL)}
    return suites if captions == "canonical" else {**suites, "phrases": spread(everything, 96)}


def spread(prompts: list[str], n: int) -> list[str]:
    """n of the prompts, evenly spread over the list."""
    return [prompts[i] for i in np.linspace(0, len(prompts) - 1, n).round().astype(int)]


def save_frame(path: Path, model: DiT, encoder, process) -> None:
    """A strip of eight pictures, one a relation, always the same prompts and seeds."""
    prompts = [
        compose((i % 2, 1 - i % 2), (i % 3, (i + 1) % 3), CANONICAL[r][0])
        for i, r in enumerate(RELATIONS)
    ]
    images = sample(
        model,
        encoder,
        prompts,
        list(range(len(prompts))),
        process=process,
        precision=fast_precision(model.positions.device),
    ).numpy()
    write_png(path, np.concatenate(list(images), 1))
