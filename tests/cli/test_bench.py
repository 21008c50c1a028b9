"""The benchmark's own measuring: works take turns, and its ratios mean what they say."""

import importlib.util

import pytest
import torch

from relcore import bench
from relcore.model.dit import PRESETS, DiT, DiTConfig


@pytest.fixture
def once(monkeypatch):
    """Every work is timed once, on one of the smallest networks."""
    compare = bench.compare
    monkeypatch.setattr(bench, "compare", lambda *works, repeats=1: compare(*works, repeats=1))
    return DiTConfig(depth=1, width=128)


def test_works_take_turns_and_the_first_two_rounds_do_not_count():
    calls = []
    times = bench.compare(lambda: calls.append("a"), lambda: calls.append("b"), repeats=3)
    assert calls == ["a", "b"] * 5
    assert [len(mine) for mine in times] == [3, 3] and min(map(min, times)) > 0


def test_the_kernels_ratios(once):
    ratios, seconds = bench.kernels(pictures=2)
    assert ratios["synopsis_memory"] <= 1 / 1000 < ratios["synopsis_memory_by_step"]
    assert ratios["synopsis_memory_by_step"] == pytest.approx(
        18 * ratios["synopsis_memory"], rel=0.2
    )
    # Seconds are the machine's, not ours.
    assert 0.3 < ratios["capture_off"] < 3 and 0.3 < ratios["capture_on"] < 3
    assert seconds["screen"] > 0


def test_a_ratio_is_the_median_over_rounds():
    assert bench.ratio([3.0, 8.0, 100.0], [1.0, 2.0, 100.0]) == 3.0
    times = {"relcore": [1.0, 1.0], "equal": [0.5, 0.5], "slow": [4.0, 4.0], "fast": [2.0, 2.0]}
    ratios, medians = bench.summed_up("sample", times, {"slow": "", "fast": ""})
    assert ratios == {
        "sample_vs_diffusers": 4,
        "sample_vs_diffusers_best": 2,
        "sample_vs_diffusers_equal": 4,
    }
    compiled = {"compiled": [0.5, 0.5], "equal_compiled": [0.25, 0.25], bench.COMPILED: [1.0, 1.0]}
    more = bench.summed_up("sample", times | compiled, {"slow": "", "fast": ""})[0]
    assert more == ratios | {
        "sample_vs_diffusers_compiled": 8,
        "sample_vs_diffusers_both_compiled": 2,
        "sample_vs_diffusers_equal_compiled": 8,
    }
    assert medians["sample_slow"] == 4 and bench.summed_up("sample", times, {})[0] == {}


@pytest.mark.parametrize("processor", bench.PEERS.values())
def test_the_peer_is_as_large_as_we_are(processor):
    pytest.importorskip("diffusers")
    peer, ours = bench.peer(PRESETS["nano"], processor), DiT(PRESETS["nano"])
    assert sum(p.numel() for p in peer.parameters()) == sum(p.numel() for p in ours.parameters())
    assert torch.equal(peer.pos_embed.pos_embed[0], ours.positions)  # the same 8 x 8 tokens
    assert {type(p).__name__ for p in peer.attn_processors.values()} == {processor}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_ratios_against_the_peer(once, precision):
    pytest.importorskip("diffusers")
    ratios, seconds = bench.training(once, 2, precision, bench.PEERS)
    assert set(ratios) == {
        "train_vs_diffusers",
        "train_vs_diffusers_best",
        "gemm_peak_share",
        "gemm_peak_share_without_optimizer",
    }
    assert (
        0 < ratios["gemm_peak_share"] < 1
        and ratios["train_vs_diffusers_best"] <= ratios["train_vs_diffusers"]
    )
    drawn, times = bench.sampling(once, 2, precision, bench.PEERS)
    assert 0 < drawn["sample_vs_diffusers_best"] <= drawn["sample_vs_diffusers"]
    assert min([*seconds.values(), *times.values()]) > 0 and {*bench.PEERS} <= {
        k[7:] for k in times
    }


@pytest.mark.parametrize("missing", ["diffusers", "transformers"])
def test_without_diffusers_its_ratios_are_left_out_and_said_to_be(once, monkeypatch, missing):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == missing else find(name, *a)
    )
    monkeypatch.setattr(bench, "kernels", lambda: ({"capture_on": 1.02}, {"screen": 0.1}))
    monkeypatch.setitem(PRESETS, "tiny", once)
    value = bench.run_bench("tiny", batch=2, pictures=2)
    assert not [name for name in value["ratios"] if "diffusers" in name]
    assert "pip install 'relcore[peers]'" in value["left_out"]
    assert value["ratios"]["capture_on"] == 1.02 and value["seconds"]["train_relcore"] > 0
    text = bench.table(value)
    assert "| capture_on | 1.02 |" in text and "| screen, seconds | 0.1 |" in text
    assert "pip install 'relcore[peers]'" in text
