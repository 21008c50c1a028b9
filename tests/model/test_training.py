"""The training loop: resuming, interruption, several processes, schedules. All on a tiny
network.
"""

import json
import os
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from relcore.data.prompts import FORMS, PHRASES, parse
from relcore.errors import RelcoreError
from relcore.files import read_tensors, write_tensors
from relcore.model import training
from relcore.model.checkpoints import load_model, open_model, save_model
from relcore.model.dit import DiT
from relcore.model.recipe import TrainConfig, changed, check, recipe_in, recipe_of
from relcore.model.training import Run, evaluation_suites

QUICK = TrainConfig(preset="tiny", samples=48, batch=8, eval_every=16, warmup=2)  # 6 steps
PROMPTS = {"canonical": ["red square is above blue circle", "blue circle is below red square"]}


@pytest.fixture(autouse=True)
def quick(monkeypatch, tiny_preset):
    monkeypatch.setattr(training, "evaluation_suites", lambda captions: PROMPTS)


def train(config: TrainConfig, folder: Path, resume: bool = False) -> Run:
    run = Run(config, folder, resume)
    run.train(progress=False)
    return run


def interrupt_at(step: int, monkeypatch, number=signal.SIGINT) -> None:
    """Send this process the signal in the middle of a step."""
    original = Run._step

    def stepping(self, parallel):
        if self.step == step:
            os.kill(os.getpid(), number)
        return original(self, parallel)

    monkeypatch.setattr(Run, "_step", stepping)


def assert_same_run(a: Path, b: Path) -> None:
    (left, left_header), (right, right_header) = (
        read_tensors(f / "state.safetensors") for f in (a, b)
    )
    assert left.keys() == right.keys() and left_header["step"] == right_header["step"]
    assert [name for name in left if not torch.equal(left[name], right[name])] == []
    tables = [pd.read_parquet(f / "metrics.parquet").drop(columns="seconds") for f in (a, b)]
    pd.testing.assert_frame_equal(*tables, check_exact=True)


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
@pytest.mark.parametrize("number, step", [(signal.SIGINT, 2), (signal.SIGTERM, 3)])
def test_interrupted_and_resumed_is_the_straight_run_bit_for_bit(
    tmp_path, monkeypatch, optimizer, number, step
):
    """Weights, averages, moments and metrics. Steps 2 and 3 end inside and at the end of an
    evaluation's interval.
    """
    config = replace(QUICK, optimizer=optimizer)
    train(config, tmp_path / "straight")
    with monkeypatch.context() as patch:
        interrupt_at(step, patch, number)
        with pytest.raises(
            RelcoreError, match=f"interrupted after {8 * (step + 1)} samples.*--resume"
        ):
            train(config, tmp_path / "broken")
    _, header = read_tensors(tmp_path / "broken" / "state.safetensors")
    assert header["step"] == step + 1
    train(config, tmp_path / "broken", resume=True)
    assert_same_run(tmp_path / "straight", tmp_path / "broken")


def test_same_seed_same_bits_other_seed_other_bits(tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train(replace(QUICK, seed=seed, samples=16), tmp_path / name)
    assert_same_run(tmp_path / "a", tmp_path / "b")
    a, c = (read_tensors(tmp_path / f / "state.safetensors")[0] for f in "ac")
    assert not torch.equal(a["model.unembed.weight"], c["model.unembed.weight"])


def test_times_follow_the_noise_levels_of_the_recipe(tmp_path):
    """logit t ~ N(noise_mean, noise_std); the times are stratified, so 256 of them show it well."""
    for mean, std in ((-1.6, 0.9), (-0.4, 1.0)):
        config = replace(QUICK, batch=256, noise_mean=mean, noise_std=std)
        levels = torch.logit(Run(config, tmp_path / str(mean)).batch()[2])
        assert levels.mean().item() == pytest.approx(mean, abs=0.02)
        assert levels.std().item() == pytest.approx(std, abs=0.05)


def test_a_recipe_of_another_version_is_read_as_far_as_it_is_known():
    assert recipe_of({"recipe": {"seed": 3, "noise_mean": -0.4, "forgotten": 1}}) == TrainConfig(
        seed=3, noise_mean=-0.4
    )


@pytest.mark.parametrize(
    "header", [{}, {"recipe": {}}, {"recipe": "rte"}, {"recipe": {"process": "gan"}}]
)
def test_a_checkpoint_without_a_recipe_that_can_be_read_is_refused(header):
    with pytest.raises(RelcoreError, match="no recipe.*release it again"):
        recipe_of(header)


def test_a_table_of_another_width_is_refused(tmp_path, tiny):
    config = replace(tiny.config, text_dim=64)
    save_model(
        tmp_path / "m.safetensors", DiT(config).state_dict(), config, {"recipe": {"encoder": "rte"}}
    )
    with pytest.raises(RelcoreError, match="width 64, 'rte' gives 384: put back"):
        open_model(str(tmp_path / "m.safetensors"))


def test_a_loss_that_is_no_number_ends_the_run_and_keeps_what_was_saved(tmp_path, monkeypatch):
    train(replace(QUICK, samples=16), tmp_path / "run")
    (tmp_path / "run" / "config.json").unlink()  # written anew by every start
    before = {file: file.read_bytes() for file in (tmp_path / "run").rglob("*.*")}
    step = Run._step
    monkeypatch.setattr(Run, "_step", lambda self, parallel: step(self, parallel) * torch.nan)
    with pytest.raises(RelcoreError, match="not a number any more.*smaller lr"):
        train(QUICK, tmp_path / "run", resume=True)
    (tmp_path / "run" / "config.json").unlink()
    assert (
        len(before) > 3
        and {file: file.read_bytes() for file in (tmp_path / "run").rglob("*.*")} == before
    )


def test_signal_handlers_are_given_back(tmp_path):
    before = signal.getsignal(signal.SIGINT)
    train(replace(QUICK, samples=8), tmp_path / "run")
    assert signal.getsignal(signal.SIGINT) is before


def test_a_run_is_not_written_over(tmp_path):
    train(replace(QUICK, samples=8), tmp_path / "run")
    before = (tmp_path / "run" / "state.safetensors").read_bytes()
    with pytest.raises(RelcoreError, match="holds a run already.*--resume"):
        Run(QUICK, tmp_path / "run")
    with pytest.raises(RelcoreError, match="batch was 8.*same values"):
        Run(replace(QUICK, batch=16), tmp_path / "run", resume=True)
    assert (tmp_path / "run" / "state.safetensors").read_bytes() == before
    assert json.loads((tmp_path / "run" / "config.json").read_text())["batch"] == 8


def test_a_longer_run_goes_on_from_a_finished_one(tmp_path):
    train(replace(QUICK, samples=16), tmp_path / "run")
    assert train(QUICK, tmp_path / "run", resume=True).step == 6


def test_how_often_a_run_is_scored_may_change_and_changes_no_weight(tmp_path, monkeypatch):
    train(QUICK, tmp_path / "straight")
    with monkeypatch.context() as patch:
        interrupt_at(2, patch)
        with pytest.raises(RelcoreError, match="interrupted"):
            train(QUICK, tmp_path / "rarer")
    train(replace(QUICK, eval_every=48), tmp_path / "rarer", resume=True)
    straight, rarer = (
        read_tensors(tmp_path / f / "state.safetensors")[0] for f in ("straight", "rarer")
    )
    assert straight.keys() == rarer.keys() and all(
        torch.equal(straight[name], rarer[name]) for name in straight
    )
    assert pd.read_parquet(tmp_path / "rarer" / "metrics.parquet").samples.unique().tolist() == [
        16,
        48,
    ]
    assert json.loads((tmp_path / "rarer" / "config.json").read_text())["eval_every"] == 48


def test_a_recipe_of_another_version_is_refused_by_name(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"preset": "tiny", "layout": 24000}))
    with pytest.raises(RelcoreError, match="another version, with layout.*anew"):
        recipe_in(tmp_path)


def test_a_recipe_is_changed_where_asked_and_nowhere_else():
    base = TrainConfig(captions="paper", named=64)
    assert changed(base, {"seed": None}, []) == base
    assert changed(base, {"seed": 3}, ["mixed=128"]) == replace(base, seed=3, mixed=128)
    assert changed(base, {}, ["lr=5e-4"]).caption_lr == 5e-4
    assert changed(replace(base, caption_lr=1e-4), {}, ["lr=5e-4"]).caption_lr == 1e-4
    with pytest.raises(RelcoreError, match="no 'colour'"):
        changed(base, {}, ["colour=red"])


def test_a_run_of_before_a_recipe_value_existed_goes_on_with_its_default(tmp_path):
    train(replace(QUICK, samples=8), tmp_path / "run")
    state = tmp_path / "run" / "state.safetensors"
    tensors, header = read_tensors(state)
    del header["config"]["caption_lr"]
    write_tensors(state, tensors, header)
    assert Run(replace(QUICK, samples=16), tmp_path / "run", resume=True).step == 1
    assert TrainConfig(lr=5e-4).caption_lr == 5e-4
    with pytest.raises(RelcoreError, match="caption_lr was 0.001"):
        Run(replace(QUICK, caption_lr=1e-4), tmp_path / "run", resume=True)


def test_snapshots_are_the_weights_of_each_evaluation(tmp_path):
    Run(QUICK, tmp_path / "run", snapshots=True).train(progress=False)
    files = sorted((tmp_path / "run" / "snapshots").iterdir())
    assert [load_model(str(file))[1]["samples"] for file in files] == [16, 32, 48]
    last, final = (
        load_model(str(f))[0].state_dict()
        for f in (files[-1], tmp_path / "run" / "model.safetensors")
    )
    assert all(torch.equal(last[name], final[name].bfloat16().float()) for name in final)
    assert not torch.equal(
        load_model(str(files[0]))[0].patch_embed.weight, last["patch_embed.weight"]
    )


def test_damaged_state_is_refused(tmp_path):
    train(replace(QUICK, samples=8), tmp_path / "run")
    state = tmp_path / "run" / "state.safetensors"
    state.write_bytes(state.read_bytes()[:-10])
    with pytest.raises(RelcoreError, match="state.safetensors"):
        Run(QUICK, tmp_path / "run", resume=True)


def test_state_of_something_else_is_refused(tmp_path, tiny):
    """A model in the place of the state."""
    train(replace(QUICK, samples=8), tmp_path / "run")
    (tmp_path / "run" / "model.safetensors").replace(tmp_path / "run" / "state.safetensors")
    with pytest.raises(RelcoreError, match="state.safetensors'"):
        Run(replace(QUICK, samples=8), tmp_path / "run", resume=True)


def test_folder_that_cannot_be_written_is_refused_before_training(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RelcoreError, match="cannot write to '.*file/run'"):
        Run(QUICK, tmp_path / "file" / "run")


@pytest.mark.parametrize(
    "change, named",
    [
        ({"preset": "giant"}, "'giant'"),
        ({"process": "gan"}, "'gan'"),
        ({"optimizer": "sgd"}, "'sgd'"),
        ({"captions": "none"}, "'none'"),
        ({"encoder": "word2vec"}, "'word2vec'"),
        ({"samples": 0}, "at least 1"),
        ({"batch": -1}, "at least 1"),
        ({"eval_every": 0}, "at least 1"),
        ({"warmup": 0}, "at least 1"),
        ({"seed": -1}, "at least 0"),
    ],
)
def test_impossible_recipes_are_refused_and_leave_nothing(tmp_path, change, named):
    with pytest.raises(RelcoreError, match=named):
        Run(replace(QUICK, **change), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_files_of_a_run(tmp_path):
    run = train(QUICK, tmp_path / "run")
    assert json.loads((tmp_path / "run" / "config.json").read_text())["captions"] == "phrases"
    table = pd.read_parquet(tmp_path / "run" / "metrics.parquet")
    assert sorted(table.samples.unique()) == [16, 32, 48]
    assert set(table.metric) == {
        "loss",
        "color",
        "shape",
        "binding",
        "relation_strict",
        "relation_loose",
    }
    assert (table[table.metric == "color"].n == 2).all()
    assert len(list((tmp_path / "run" / "frames").iterdir())) == 3
    model, header = load_model(str(tmp_path / "run"))
    assert header["samples"] == 48 and header["recipe"]["batch"] == 8
    assert all(
        torch.equal(p, run.average.get_parameter(name)) for name, p in model.named_parameters()
    )


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"optimizer": "adamw"},
        {"process": "iddpm"},
        {"encoder": "rte-nopos"},
        {"captions": "paper"},
    ],
)
def test_one_batch_can_be_learned(tmp_path, monkeypatch, change):
    """Every recipe's loss falls below its start on pictures seen again and again."""
    run = Run(replace(QUICK, samples=10**6, batch=16, warmup=1, **change), tmp_path / "run")
    same = run.batch()
    monkeypatch.setattr(Run, "batch", lambda self: same)
    losses = [float(run._step(run.model)) for _ in range(30)]
    assert np.isfinite(losses).all() and losses[-1] < 0.8 * losses[0]


# --- several processes


def test_two_processes_train_as_one(tmp_path):
    """fp32 sums in another order; a run with other noise or pictures ends about as far away as it
    went.

    The processes are started as torchrun does, by environment; `accelerate launch --cpu
    --num_processes 2` silently runs one where there is no MPI.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = os.environ | {
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
    }
    pair = {
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    started = [
        subprocess.Popen(
            [
                sys.executable,
                Path(__file__).with_name("worker.py"),
                tmp_path / name,
                processes,
                "samples=48",
                "batch=8",
                "eval_every=16",
                "optimizer=adamw",
            ],
            env=common | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for name, processes, environment in (
            ("one", "1", {}),
            *(("two", "2", pair | {"RANK": r, "LOCAL_RANK": r}) for r in "01"),
        )
    ]
    try:
        for process in started:
            # Half a minute, on a machine that has nothing else to do.
            output, _ = process.communicate(timeout=400)
            assert process.returncode == 0, output[-3000:]
    finally:
        for process in started:
            process.kill()
    one, two = (read_tensors(tmp_path / name / "state.safetensors")[0] for name in ("one", "two"))
    torch.manual_seed(0)
    start = training.DiT(training.PRESETS["tiny"]).state_dict()
    names = [name.removeprefix("model.") for name in one if name.startswith("model.")]
    went = torch.cat([(one[f"model.{n}"] - start[n]).flatten() for n in names]).norm()
    apart = torch.cat([(one[f"model.{n}"] - two[f"model.{n}"]).flatten() for n in names]).norm()
    assert went > 0 and apart < 0.01 * went
    losses = [
        pd.read_parquet(tmp_path / n / "metrics.parquet").query("metric == 'loss'").value
        for n in ("one", "two")
    ]
    np.testing.assert_allclose(*losses, rtol=1e-3)
    alone, *shared = (
        pd.read_parquet(tmp_path / f)
        for f in (
            "one/evaluation-0.parquet",
            "two/evaluation-0.parquet",
            "two/evaluation-1.parquet",
        )
    )
    assert len(alone) == 40 and 0 < alone["shape"].mean() < 1
    for table in shared:  # an evaluation's numbers are the same to the bit, in every process
        pd.testing.assert_frame_equal(table, alone)


# --- schedules


def test_learning_rate_warms_up_holds_and_falls_to_zero():
    config = TrainConfig(samples=32_000, batch=32, warmup=50)
    rates = [config.rate(32 * step) for step in range(1001)]
    assert rates[:50] == pytest.approx(np.arange(1, 51) / 50)
    assert set(rates[49:700]) == {1.0}
    assert np.diff(rates[701:]) == pytest.approx(np.full(299, -1 / 300)) and rates[
        1000
    ] == pytest.approx(0)


def test_evaluation_suites_follow_the_captions():
    assert list(evaluation_suites("canonical")) == ["canonical"]
    suites = evaluation_suites("phrases")
    assert [len(set(prompts)) for prompts in suites.values()] == [96, 96]
    found = {
        " ".join(p[s:e] for s, e, r in parse(p).spans if r == "relation") for p in suites["phrases"]
    }
    assert found == {phrase for phrases in PHRASES.values() for phrase in phrases}
    forms = evaluation_suites("paper")
    assert {form: len(prompts) for form, prompts in forms.items()} == dict.fromkeys(FORMS, 66)
    for form, prompts in forms.items():
        unnamed = [tuple(k for k in (0, 1) if parse(prompt).colors[k] < 0) for prompt in prompts]
        assert set(unnamed) == {FORMS[form]}


def test_the_captions_follow_the_stages_of_the_recipe():
    rng = np.random.default_rng(0)
    config = TrainConfig(captions="paper", named=100, mixed=50, named_phrases="canonical")
    stages = [(0, "canonical"), (99, "canonical"), (100, "paper"), (150, "paper")]
    assert [config.captions_at(samples) for samples, _ in stages] == [name for _, name in stages]
    for samples in (0, 99):
        assert (config.left_out(samples, rng) == 0).all()
    for samples in (150, 10_000):
        assert (config.left_out(samples, rng) == 0.5).all()
    for share in (0.0, 0.3, 1.0):  # no colour or both, never one
        mixed = replace(config, bare_share=share, batch=4000).left_out(149, rng)
        assert set(mixed) <= {0, 1} and abs(mixed.mean() - share) < 0.03
    assert (TrainConfig(captions="paper").left_out(0, rng) == 0.5).all()
    assert not TrainConfig().left_out(0, rng).any() and TrainConfig().captions_at(0) == "phrases"
    with pytest.raises(RelcoreError, match="captions=paper"):
        check(TrainConfig(named=100))
    with pytest.raises(RelcoreError, match="bare_share"):
        check(TrainConfig(captions="paper", mixed=100, bare_share=1.5))


def test_a_run_with_stages_resumes_to_the_same_bits(tmp_path, monkeypatch):
    staged = replace(QUICK, captions="paper", named=16, mixed=16, positions=1.0)
    train(staged, tmp_path / "straight")
    with monkeypatch.context() as patch, pytest.raises(RelcoreError, match="--resume"):
        interrupt_at(3, patch)
        train(staged, tmp_path / "halted")
    train(staged, tmp_path / "halted", resume=True)
    assert_same_run(tmp_path / "straight", tmp_path / "halted")
