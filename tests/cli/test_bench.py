"""The benchmark's own measuring: works take turns, and the kernels' ratios mean what they say."""

import pytest

from relcore import bench


def test_works_take_turns_and_the_first_two_rounds_do_not_count():
    calls = []
    times = bench.compare(lambda: calls.append("a"), lambda: calls.append("b"), repeats=3)
    assert calls == ["a", "b"] * 5
    assert [len(mine) for mine in times] == [3, 3] and min(map(min, times)) > 0


def test_the_kernels_ratios(monkeypatch):
    compare = bench.compare
    monkeypatch.setattr(bench, "compare", lambda *works, repeats=1: compare(*works, repeats=1))
    ratios, seconds = bench.kernels(pictures=2)
    assert ratios["synopsis_memory"] <= 1 / 1000 < ratios["synopsis_memory_by_step"]
    assert ratios["synopsis_memory_by_step"] == pytest.approx(18 * ratios["synopsis_memory"], rel=0.2)
    assert 0.3 < ratios["capture_off"] < 3 and 0.3 < ratios["capture_on"] < 3  # seconds are the machine's, not ours
    assert seconds["screen"] > 0
