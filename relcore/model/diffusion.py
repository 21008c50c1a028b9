"""Noise processes, the training loss and the samplers.

Time runs from 0 (pure noise) to 1 (clean picture): x_t = alpha(t) x + sigma(t) noise.
Both processes give the network's output as an estimate of the clean picture, so every sampler
works with either and none of them knows about prompts: guidance is part of the denoiser.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..data.encoders import Text
from ..errors import RelcoreError, require
from .dit import DiT

# (x_t [batch, rgb, y, x], t [batch]) -> clean picture.
Denoiser = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class RectifiedFlow:
    """x_t = t x + (1 - t) noise, predicting x (Liu et al. 2022; Li & He 2025 for x-prediction).

    Training times are logit-normal, logit t ~ N(mean, std). The default spends 53 % of the samples
    between t = .05 and .2, where a picture's layout is decided; the usual N(-0.4, 1) spends 16 %
    there.
    """

    mean: float = -1.6
    std: float = 0.9
    shift: float = 5.0  # sampling times u / (u + shift (1 - u)): dense near the noise

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return t, 1 - t

    def training_times(self, n: int, generator: torch.Generator) -> Tensor:
        """One time from each n-th of the distribution, in random order (Kingma et al. 2021, I.1):
        a batch whose noise levels are spread evenly has a steadier gradient."""
        level = (torch.randperm(n, generator=generator) + torch.rand(n, generator=generator)) / n
        return torch.sigmoid(
            self.mean + self.std * torch.special.ndtri(level.clamp(1e-6, 1 - 1e-6))
        )

    def sampling_times(self, steps: int) -> Tensor:
        u = torch.linspace(0, 1, steps + 1)
        return u / (u + self.shift * (1 - u))

    def clean(self, output: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        return output

    def loss(self, output: Tensor, x: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Velocity loss: the picture's error times 1 / (1 - t)^2, bounded as t nears 1."""
        weight = (1 / (1 - t) ** 2).clamp(max=100)
        return (weight * (output - x).square().mean((1, 2, 3))).mean()


# Variance of the picture that is left after 0 to 1000 of the linear betas.
_BETAS = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
_KEPT = torch.cat([torch.ones(1), (1 - _BETAS).cumprod(0)]).float()


@dataclass(frozen=True)
class IDDPM:
    """The paper's objective: 1000 linear betas, uniform t, epsilon prediction, unweighted error.

    Its learned variance is left out: the hybrid loss stops that gradient at the mean, and the
    paper's sampler (DPM-Solver++) does not use it.
    """

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        kept, step = _KEPT.to(t), ((1 - t) * 1000).round().long()  # 0 = clean, 1000 = noise
        return kept[step].sqrt(), (1 - kept[step]).sqrt()

    def training_times(self, n: int, generator: torch.Generator) -> Tensor:
        return 1 - torch.randint(1, 1001, (n,), generator=generator) / 1000

    def sampling_times(self, steps: int) -> Tensor:
        return torch.linspace(0, 1000, steps + 1).round() / 1000

    def clean(self, output: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = (a[:, None, None, None] for a in self.alpha_sigma(t))
        return (x_t - sigma * output) / alpha

    def loss(self, output: Tensor, x: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        return (output - noise).square().mean()


PROCESSES = {"flow": RectifiedFlow, "iddpm": IDDPM}


def training_loss(
    model: DiT, process, image: Tensor, text: Text, t: Tensor, noise: Tensor
) -> Tensor:
    """Loss of one batch; image, noise: [batch, rgb, y, x], image in [-1, 1]; t: [batch] in [0,
    1].
    """
    alpha, sigma = (a[:, None, None, None] for a in process.alpha_sigma(t))
    return process.loss(model(alpha * image + sigma * noise, t, text).float(), image, noise, t)


def initial_noise(seeds: list[int], size: int) -> Tensor:
    """Noise [batch, rgb, y, x]; sample k depends on its seed alone, not on batch or device."""
    return torch.stack(
        [
            torch.randn(3, size, size, generator=torch.Generator().manual_seed(seed))
            for seed in seeds
        ]
    )


def guides(process, t: Tensor, guidance: float, until: float) -> bool:
    """Whether a pass at time t is guided; see `guided`."""
    alpha, sigma = process.alpha_sigma(t)
    return guidance != 1 and bool(alpha < until * (alpha + sigma))


def guided(model: DiT, process, text: Text, guidance: float, until: float = 1.0) -> Denoiser:
    """Denoiser with classifier-free guidance (Ho & Salimans 2022): u + guidance (c - u).

    until: guidance stops when the share of signal, alpha / (alpha + sigma), reaches this
    (Kynkaanniemi et al. 2024): the conditional pass alone runs from there on. text: one row a
    picture, and one more of the empty prompt. The text is read once; the two passes of a guided
    step run as one batch, conditional rows first.
    """
    n, read = len(text.mask) - 1, model.read_text(text)
    both, alone = read[[*range(n), *[n] * n]], read[:n]

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        if not guides(process, t[:1], guidance, until):
            return process.clean(model(x, t, alone).to(x.dtype), x, t)
        twice_x, twice_t = torch.cat([x, x]), torch.cat([t, t])
        c, u = process.clean(model(twice_x, twice_t, both).to(x.dtype), twice_x, twice_t).split(n)
        return u + guidance * (c - u)

    return denoise


# Samplers: (denoise, process, x, times, callback) -> clean picture. `callback` is called once a
# step as callback({"step", "t", "x", "denoised"}) and is the only extension point.


def sample_euler(denoise: Denoiser, process, x: Tensor, times: Tensor, callback=None) -> Tensor:
    """Euler's method on the flow's ODE; on IDDPM the same step is deterministic DDIM (Song et al.
    2021).
    """
    for i, (t, s) in enumerate(zip(times[:-1], times[1:], strict=True)):
        clean = denoise(x, t.expand(len(x)))
        if callback:
            callback({"step": i, "t": float(t), "x": x, "denoised": clean})
        (alpha, sigma), (alpha_s, sigma_s) = process.alpha_sigma(t), process.alpha_sigma(s)
        x = alpha_s * clean + sigma_s * (x - alpha * clean) / sigma
    return x


def sample_heun(denoise: Denoiser, process, x: Tensor, times: Tensor, callback=None) -> Tensor:
    """Heun's second-order correction of Euler (Karras et al. 2022, Algorithm 1); last step
    Euler.
    """
    for i, (t, s) in enumerate(zip(times[:-1], times[1:], strict=True)):
        clean = denoise(x, t.expand(len(x)))
        if callback:
            callback({"step": i, "t": float(t), "x": x, "denoised": clean})
        (alpha, sigma), (alpha_s, sigma_s) = process.alpha_sigma(t), process.alpha_sigma(s)
        ahead = alpha_s * clean + sigma_s * (x - alpha * clean) / sigma
        if i < len(times) - 2:
            noise, after = (x - alpha * clean) / sigma, denoise(ahead, s.expand(len(x)))
            noise = (noise + (ahead - alpha_s * after) / sigma_s) / 2
            ahead = x + (alpha_s - alpha) * (clean + after) / 2 + (sigma_s - sigma) * noise
        x = ahead
    return x


def sample_dpm(denoise: Denoiser, process, x: Tensor, times: Tensor, callback=None) -> Tensor:
    """DPM-Solver++(2M), Lu et al. 2022, Algorithm 2: the paper's sampler. First and last step first
    order.
    """
    before, gap_before = None, None
    for i, (t, s) in enumerate(zip(times[:-1], times[1:], strict=True)):
        clean = denoise(x, t.expand(len(x)))
        if callback:
            callback({"step": i, "t": float(t), "x": x, "denoised": clean})
        (alpha, sigma), (alpha_s, sigma_s) = process.alpha_sigma(t), process.alpha_sigma(s)
        if i == len(times) - 2:
            return clean
        if i == 0 and alpha == 0:  # half a log signal-to-noise ratio of -inf: an Euler step
            x = alpha_s * clean + sigma_s * (x - alpha * clean) / sigma
            continue
        gap = math.log(alpha_s / sigma_s) - math.log(alpha / sigma)
        target = clean
        if before is not None:
            target = clean + (clean - before) * gap / (2 * gap_before)
        x = sigma_s / sigma * x - alpha_s * math.expm1(-gap) * target
        before, gap_before = clean, gap
    return x


SAMPLERS = {"euler": sample_euler, "heun": sample_heun, "dpm": sample_dpm}


@torch.no_grad()
def sample(
    model: DiT,
    encoder,
    prompts: list[str],
    seeds: list[int],
    *,
    process=None,
    sampler: str = "dpm",
    steps: int = 18,
    guidance: float = 4.0,
    guided_until: float = 0.2,
    batch: int = 64,
    precision: str = "fp32",
    callback=None,
) -> Tensor:
    """Draw one picture per (prompt, seed): uint8 [picture, y, x, rgb].

    Deterministic: a picture depends on its own prompt and seed; the size of the batch only decides
    how many are computed at once. guided_until: see `guided`; strong guidance while the layout is
    decided and none after it gives better relations and cleaner shapes than weak guidance
    throughout.
    precision: "fp32", or "bf16" for the network's matrix products, twice as fast where
        `fast_precision`
    says so: one pixel in twenty then differs, by a level or two. callback: see the samplers; called
        batch after batch.
    """
    if len(prompts) != len(seeds):
        raise RelcoreError(f"{len(prompts)} prompts but {len(seeds)} seeds: give one seed a prompt")
    require("sampler", sampler, SAMPLERS)
    require("precision", precision, ("fp32", "bf16"))
    if not 1 <= steps <= 1000:
        raise RelcoreError(f"cannot draw in {steps} steps: take 1 to 1000")
    process, device = process or RectifiedFlow(), model.positions.device
    half = torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")
    times = process.sampling_times(steps).to(device)
    out = []
    for start in range(0, len(prompts), batch):
        rows = slice(start, start + batch)
        text = encoder.encode([*prompts[rows], ""]).to(device)
        x = initial_noise(seeds[rows], model.config.image_size).to(device)
        if model.tap:
            model.tap.new_batch(len(x))
        with half:
            denoise = guided(model, process, text, guidance, guided_until)
            out.append(to_pixels(SAMPLERS[sampler](denoise, process, x, times, callback)))
    return torch.cat(out)


def to_pixels(x: Tensor) -> Tensor:
    """[batch, rgb, y, x] in [-1, 1] -> uint8 [batch, y, x, rgb] on the CPU."""
    return ((x.float().clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu()


def to_signal(pixels: Tensor) -> Tensor:
    """uint8 [batch, y, x, rgb] -> float [batch, rgb, y, x] in [-1, 1]."""
    return pixels.permute(0, 3, 1, 2).float() / 127.5 - 1


def fast_precision(device: torch.device | str = "cpu") -> str:
    """ "bf16" on GPUs and on CPUs with bf16 units; "fp32" elsewhere, where bf16 is a hundred times
    slower.
    """
    on_cpu = torch.device(device).type == "cpu"
    fast = not on_cpu or (
        torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    )
    return "bf16" if fast else "fp32"
