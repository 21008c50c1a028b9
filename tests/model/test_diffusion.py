"""Noise processes, samplers on a problem with a known answer, guidance, sampling."""

import math

import pytest
import torch

from relcore.data.encoders import RandomTokenEncoder
from relcore.data.prompts import suite
from relcore.errors import RelcoreError
from relcore.model.diffusion import (
    IDDPM,
    SAMPLERS,
    RectifiedFlow,
    guided,
    initial_noise,
    sample,
    sample_heun,
    to_pixels,
    to_signal,
)

PROMPTS = [
    "red square is above blue circle",
    "blue circle is diagonally up and left from red triangle",
    "blue triangle is left of red square",
]
# Sums of a few hundred fp32 terms, taken in another order.
REORDERED = {"atol": 1e-4, "rtol": 1e-4}
# fp32 sums taken in another order differ by 1e-6 of their size; only a value that lies on the edge
# between two of the 255 levels (8e-3 apart) can move, and then by one level.
ONE_LEVEL = 1
ENCODER = RandomTokenEncoder()


# --- samplers against the exact solution for Gaussian data x ~ N(MEAN, SPREAD^2)

MEAN, SPREAD = 0.3, 0.5


def posterior_mean(process):
    """The exact denoiser E[x | x_t]."""

    def denoise(x_t, t):
        alpha, sigma = (a.to(x_t)[:, None, None, None] for a in process.alpha_sigma(t))
        return MEAN + alpha * SPREAD**2 / (alpha**2 * SPREAD**2 + sigma**2) * (x_t - alpha * MEAN)

    return denoise


def errors(name: str, process, steps: list[int]) -> list[float]:
    """Largest distance of a sampler's end from the ODE's, for each number of steps."""
    noise = torch.randn(4, 3, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    # Along the ODE a sample keeps its place in the Gaussian: (x_t - alpha MEAN) / std(x_t) is
    # constant.
    alpha, sigma = (a.double() for a in process.alpha_sigma(torch.zeros(1, dtype=torch.float64)))
    exact = MEAN + SPREAD * (noise - alpha * MEAN) / (alpha**2 * SPREAD**2 + sigma**2).sqrt()
    return [
        float(
            (
                SAMPLERS[name](
                    posterior_mean(process), process, noise, process.sampling_times(n).double()
                )
                - exact
            )
            .abs()
            .max()
        )
        for n in steps
    ]


@pytest.mark.parametrize("name, order", [("euler", 1), ("heun", 2), ("dpm", 2)])
def test_samplers_converge_with_their_order(name, order):
    """The log signal-to-noise ratio is singular at both ends, so an error of order 2 is h^2
    log(1/h): at n = 512 steps that takes 1 / ln(512) = .16 off the slope; the band leaves the next
    term as much again.
    """
    coarse, fine = errors(name, RectifiedFlow(shift=1.0), [512, 1024])
    assert math.log2(coarse / fine) == pytest.approx(order, abs=0.3)


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("process", [RectifiedFlow(), IDDPM()], ids=["flow", "iddpm"])
def test_samplers_agree_in_the_limit(name, process):
    """At 1000 steps, the finest IDDPM has: an error of order 1 is a few thousandths of the data's
    spread.
    """
    assert errors(name, process, [1000])[0] < 0.02 * SPREAD


def test_second_order_samplers_pay():
    n = 64
    euler, heun, dpm = (
        errors(name, RectifiedFlow(shift=1.0), [n])[0] for name in ("euler", "heun", "dpm")
    )
    assert heun < euler / 3 and dpm < euler / 3


def test_heun_is_heuns_method():
    """Karras et al. 2022, Algorithm 1, on the flow's ODE dx/dt = (clean - x) / (1 - t): slopes are
    averaged.
    """
    process = RectifiedFlow()
    denoise, times = posterior_mean(process), process.sampling_times(14).double()
    x = noise = torch.randn(
        2, 3, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    for i, (t, s) in enumerate(zip(times[:-1], times[1:], strict=True)):
        slope = (denoise(x, t.expand(2)) - x) / (1 - t)
        ahead = x + (s - t) * slope
        if i < 13:
            slope = (slope + (denoise(ahead, s.expand(2)) - ahead) / (1 - s)) / 2
        x = x + (s - t) * slope
    # The same arithmetic in double precision, its times from fp32.
    torch.testing.assert_close(sample_heun(denoise, process, noise, times), x, atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", SAMPLERS)
def test_callback_sees_every_step_and_changes_nothing(name):
    process, seen = RectifiedFlow(), []
    noise, times = torch.randn(1, 3, 2, 2), process.sampling_times(5)
    quiet = SAMPLERS[name](posterior_mean(process), process, noise, times)
    loud = SAMPLERS[name](posterior_mean(process), process, noise, times, seen.append)
    assert torch.equal(quiet, loud)
    assert [s["step"] for s in seen] == list(range(5)) and [s["t"] for s in seen] == times[
        :-1
    ].tolist()
    assert all(s["x"].shape == s["denoised"].shape == noise.shape for s in seen)


# --- processes


def test_flow_runs_straight_from_noise_to_picture():
    t = torch.tensor([0.0, 0.25, 1.0])
    alpha, sigma = RectifiedFlow().alpha_sigma(t)
    assert torch.equal(alpha, t) and torch.equal(alpha + sigma, torch.ones(3))


def test_iddpm_keeps_the_variance_and_the_papers_ends():
    """1000 linear betas: alpha^2 at step 1000 is 4.04e-5 (Nichol & Dhariwal 2021)."""
    alpha, sigma = IDDPM().alpha_sigma(1 - torch.arange(1001) / 1000)
    torch.testing.assert_close(alpha**2 + sigma**2, torch.ones(1001))
    assert (alpha.diff() < 0).all() and alpha[0] == 1 and sigma[0] == 0
    assert float(alpha[-1] ** 2) == pytest.approx(4.04e-5, rel=0.01)


@pytest.mark.parametrize("process", [RectifiedFlow(), IDDPM()], ids=["flow", "iddpm"])
@pytest.mark.parametrize("steps", [1, 14, 50])
def test_sampling_times_rise_from_noise_to_clean(process, steps):
    times = process.sampling_times(steps)
    assert len(times) == steps + 1 and times[0] == 0 and times[-1] == 1 and (times.diff() > 0).all()


@pytest.mark.parametrize(
    "process, share", [(RectifiedFlow(), 0.53), (RectifiedFlow(-0.4, 1.0), 0.16)]
)
def test_share_of_training_times_where_the_layout_is_decided(process, share):
    """P(.05 < t < .2), as the docstring of RectifiedFlow says; four standard errors of 100 000
    draws.
    """
    low, high = ((math.log(t / (1 - t)) - process.mean) / process.std / 2**0.5 for t in (0.05, 0.2))
    assert (math.erf(high) - math.erf(low)) / 2 == pytest.approx(share, abs=0.005)
    times = process.training_times(100_000, torch.Generator().manual_seed(0))
    assert times.min() > 0 and times.max() < 1
    found = float(((times > 0.05) & (times < 0.2)).float().mean())
    assert found == pytest.approx(share, abs=4 * (share * (1 - share) / 1e5) ** 0.5 + 0.005)


@pytest.mark.parametrize("process", [RectifiedFlow(), IDDPM()], ids=["flow", "iddpm"])
def test_the_perfect_output_has_no_loss_and_gives_the_picture(process):
    generator = torch.Generator().manual_seed(0)
    x, noise = torch.randn(2, 8, 3, 4, 4, generator=generator)
    t = process.training_times(8, generator)
    alpha, sigma = (a[:, None, None, None] for a in process.alpha_sigma(t))
    perfect = x if isinstance(process, RectifiedFlow) else noise
    assert process.loss(perfect, x, noise, t) == 0 and process.loss(perfect + 1, x, noise, t) > 0
    # Dividing by alpha >= .0064 enlarges fp32 rounding (6e-8 of numbers below 5) a hundredfold and
    # more.
    torch.testing.assert_close(
        process.clean(perfect, alpha * x + sigma * noise, t), x, atol=1e-3, rtol=0
    )


def test_flow_loss_is_the_velocitys_up_to_its_bound():
    x, output = torch.randn(2, 1, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(1, 3, 4, 4)
    for t, bounded in ((0.2, False), (0.8, False), (0.95, True)):
        velocity = (((output - x) / (1 - t)) ** 2).mean()
        loss = RectifiedFlow().loss(output, x, noise, torch.tensor([t]))
        assert (loss < velocity) if bounded else loss == pytest.approx(velocity)


def test_pixels_and_signal_are_inverse():
    pixels = torch.arange(256, dtype=torch.uint8).repeat(3).view(1, 16, 16, 3)
    assert torch.equal(to_pixels(to_signal(pixels)), pixels)
    assert to_pixels(torch.full((1, 3, 1, 1), 9.0)).max() == 255


# --- guidance


def test_guidance_moves_away_from_the_empty_prompt(tiny):
    process, x, t = RectifiedFlow(), initial_noise([0, 1, 2], 64), torch.full((3,), 0.3)
    text = ENCODER.encode([*PROMPTS, ""])
    c, u = tiny(x, t, text[:3]), tiny(x, t, ENCODER.encode([""] * 3))
    assert torch.equal(guided(tiny, process, text, 1)(x, t), c)
    for guidance in (0, 0.5, 3.0):
        torch.testing.assert_close(
            guided(tiny, process, text, guidance)(x, t), u + guidance * (c - u), **REORDERED
        )


@pytest.mark.parametrize("process", [RectifiedFlow(), IDDPM()], ids=["flow", "iddpm"])
def test_guidance_stops_at_its_share_of_signal(tiny, process):
    text, x = ENCODER.encode([*PROMPTS, ""]), initial_noise([0, 1, 2], 64)
    strong, none = (guided(tiny, process, text, *how) for how in ((4.0, 0.2), (1.0,)))
    for t in process.sampling_times(18)[:-1].tolist():
        times = torch.full((3,), t)
        alpha, sigma = process.alpha_sigma(times[:1])
        assert torch.equal(strong(x, times), none(x, times)) == bool(alpha / (alpha + sigma) >= 0.2)


# --- sampling


def test_noise_depends_on_its_seed_alone():
    assert torch.equal(initial_noise([3, 5, 8], 64)[1], initial_noise([5], 64)[0])


def test_sampling_repeats_itself(tiny):
    a, b = (sample(tiny, ENCODER, PROMPTS, [0, 1, 2], steps=4) for _ in range(2))
    assert torch.equal(a, b) and a.shape == (3, 64, 64, 3) and a.dtype == torch.uint8


@pytest.mark.parametrize("guidance", [1, 3.0])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_picture_does_not_depend_on_its_batch(tiny, sampler, guidance):
    prompts = suite()[::7]  # of several lengths, so that padding differs too
    seeds = list(range(len(prompts)))
    how = {"sampler": sampler, "guidance": guidance, "steps": 8}
    whole = sample(tiny, ENCODER, prompts, seeds, batch=64, **how).int()
    assert len(whole.unique()) > 100  # not clipped flat
    for batch in (1, 5):
        parts = sample(tiny, ENCODER, prompts, seeds, batch=batch, **how).int()
        assert (parts - whole).abs().max() <= ONE_LEVEL
    turned = sample(tiny, ENCODER, prompts[::-1], seeds[::-1], batch=64, **how).int().flip(0)
    assert (turned - whole).abs().max() <= ONE_LEVEL


def test_half_precision_draws_the_same_picture_a_little_less_exactly(tiny):
    exact, half = (
        sample(tiny, ENCODER, PROMPTS, [0, 1, 2], steps=8, precision=p).int()
        for p in ("fp32", "bf16")
    )
    assert 0 < (exact - half).abs().float().mean() < 2  # of 255 levels
    with pytest.raises(RelcoreError, match="'fp8'.*bf16"):
        sample(tiny, ENCODER, PROMPTS, [0, 1, 2], precision="fp8")


def test_seed_and_prompt_both_matter(tiny):
    images = sample(tiny, ENCODER, [PROMPTS[0], PROMPTS[0], PROMPTS[1]], [0, 1, 0], steps=4).int()
    assert (images[0] - images[1]).abs().max() > 10 and (images[0] - images[2]).abs().max() > 10


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_runs_with_iddpm(tiny, sampler):
    noise = initial_noise([0, 1, 2], 64)
    denoise = guided(tiny, IDDPM(), ENCODER.encode([*PROMPTS, ""]), 3.0)
    assert SAMPLERS[sampler](denoise, IDDPM(), noise, IDDPM().sampling_times(6)).isfinite().all()


def test_bad_requests_are_named(tiny):
    with pytest.raises(RelcoreError, match="3 prompts but 2 seeds"):
        sample(tiny, ENCODER, PROMPTS, [0, 1])
    with pytest.raises(RelcoreError, match="'rk45'.*euler, heun, dpm"):
        sample(tiny, ENCODER, PROMPTS, [0, 1, 2], sampler="rk45")
