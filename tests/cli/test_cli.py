"""The command line: JSON on stdout, and one clear line with exit status 2 for bad input."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pandas as pd
import pytest

from relcore.data import contextual
from relcore.data.prompts import PHRASES, suite
from relcore.errors import RelcoreError
from relcore.model import diffusion, evaluation, training

METRICS = {"color", "shape", "binding", "relation_strict", "relation_loose"}
TINY = ["--preset", "nano", "--set", "batch=4", "--set", "eval_every=1000000"]


@pytest.fixture
def result(relcore):
    def run(*arguments):
        done = relcore(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout, parse_constant=pytest.fail)  # NaN is no JSON

    return run


def test_models_lists_every_checkpoint_with_metrics(result):
    models = result("models")["models"]
    assert "rte-micro" in {m["name"] for m in models}
    for m in models:
        assert {"name", "preset", "encoder", "seed", "params", "sha256", "metrics"} <= m.keys()
        assert m["metrics"].keys() == METRICS
        assert all(
            v["low"] <= v["value"] <= v["high"] and v["n"] > 0 for v in m["metrics"].values()
        )


def test_sample_writes_one_file_a_picture_named_by_prompt_and_seed(result, tmp_path):
    done = result(
        "sample",
        "red square is above blue circle",
        "-n",
        2,
        "--seed",
        5,
        "--steps",
        2,
        "--out",
        tmp_path / "pictures",
    )
    assert [i["seed"] for i in done["images"]] == [5, 6]
    for image in done["images"]:
        assert (
            tmp_path / "pictures" / f"red-square-is-above-blue-circle-s{image['seed']}.png"
        ).read_bytes()[1:4] == b"PNG"
        assert {"file", "prompt", "seed", "objects", "metrics"} <= image.keys()


def test_sample_writes_a_grid(result, tmp_path):
    result(
        "sample",
        "red square is above blue circle",
        "-n",
        1,
        "--steps",
        1,
        "--out",
        tmp_path / "grid.png",
    )
    assert (tmp_path / "grid.png").read_bytes()[1:4] == b"PNG"


def test_evaluate_reports_the_fixed_fields(result, tmp_path):
    done = result(
        "evaluate",
        "--steps",
        1,
        "--guidance",
        1,
        "--template",
        "is-the",
        "--out",
        tmp_path / "rows.parquet",
    )
    assert done["template"] == "is-the" and done["metrics"].keys() == METRICS
    # Of no picture.
    assert len(done["by_relation"]) == 8 and done["displacement"] == {"dx": None, "dy": None}
    assert (tmp_path / "rows.parquet").exists()


def test_ablate_reports_the_fixed_fields_and_goes_on_with_its_file(relcore, result, tmp_path):
    out = tmp_path / "heads.parquet"
    fast = ["--steps", 1, "--guidance", 1, "--method", "zero", "--out", out]
    one = result("ablate", "--head", "L3H2", *fast)
    assert (
        one.keys() == {"model", "head", "method", "baseline", "ablated"} and one["head"] == "L3H2"
    )
    assert one["baseline"].keys() == one["ablated"].keys() == METRICS
    before = out.stat().st_mtime_ns
    assert result("ablate", "--head", "L3H2", *fast) == one and out.stat().st_mtime_ns == before
    refused = relcore("ablate", "--head", "L3H2", *fast, "--steps", 2)
    assert (
        refused.returncode == 2 and "steps" in refused.stderr and out.stat().st_mtime_ns == before
    )


def test_screen_prints_the_means_and_writes_every_relation(result, tmp_path):
    out = tmp_path / "heads.parquet"
    heads = result("screen", "--token", "relation", "--token", "words", "--out", out)["heads"]
    assert len(heads) == 2 * 18 and {head["token"] for head in heads} == {"relation", "words"}
    table = pd.read_parquet(out)
    assert table.groupby("token").size().to_dict() == {"relation": 18 * 9, "words": 18 * 10}
    assert len(table.attrs["checkpoint"]) == 64 and table.attrs["command"].startswith(
        "relcore screen"
    )


def test_fusion_gives_every_measure_before_and_after_the_caption_mlp(result, tmp_path):
    words = pd.DataFrame(
        result("fusion", "--model", "rte-micro", "--out", tmp_path / "words.parquet")["words"]
    )
    equal = (
        words[(words.measure == "relation at equal length") & (words.token == "shape2")]
        .set_index("where")
        .value
    )
    # No context.
    assert (
        set(equal.index) == {"as encoded", "after the caption MLP"} and (equal.abs() < 1e-9).all()
    )
    assert len(pd.read_parquet(tmp_path / "words.parquet")) == len(words)


def test_export_writes_a_graph(result, tmp_path):
    pytest.importorskip("onnxscript", reason="needs the extra 'page'")
    out = tmp_path / "nano.onnx"
    [file] = result("export", "--model", "rte-nano", "--out", out)["files"]
    assert file == {"file": str(out), "bytes": out.stat().st_size}


BAD_INPUT = {
    "nothing to export": (["export"], "--out"),
    "a graph of another kind": (["export", "--out", "graph.txt"], ".onnx"),
    "unknown colour": (["sample", "green square is above blue circle"], "green"),
    "unknown shape": (["sample", "red hexagon is above blue circle"], "hexagon"),
    "no relation": (["sample", "red square blue circle"], "no spatial relation"),
    "unknown model": (["sample", "red square is above blue circle", "--model", "nosuch"], "nosuch"),
    "unknown template": (["evaluate", "--template", "nosuch"], "nosuch"),
    "unknown sampler": (
        ["sample", "red square is above blue circle", "--sampler", "nosuch"],
        "nosuch",
    ),
    "unknown preset": (["train", "--preset", "huge", "--out", "run"], "huge"),
    "unknown encoder": (["train", "--encoder", "nosuch", "--out", "run"], "nosuch"),
    "unknown token to screen": (["screen", "--token", "nosuch"], "nosuch"),
    "words of a contextual encoder": (
        ["screen", "--model", "e5-micro", "--token", "words"],
        "'e5'",
    ),
    "unknown null": (["screen", "--null", "nosuch"], "nosuch"),
    "unknown head": (["ablate", "--head", "L9H9"], "L9H9"),
    "two things to take away": (["ablate", "--head", "L3H2", "--mask", "relation"], "one of"),
    "nothing to take away": (["ablate"], "--every"),
    "unknown role to mask": (["ablate", "--mask", "verb"], "verb"),
    "unknown method": (["ablate", "--head", "L3H2", "--method", "nosuch"], "nosuch"),
    "unknown kind of attention": (["ablate", "--head", "L3H2", "--attention", "both"], "both"),
    "unknown encoder to encode with": (
        ["encode", "--encoder", "nosuch", "--out", "t.safetensors"],
        "nosuch",
    ),
    "encoder without its source": (
        ["encode", "--encoder", "t5", "--out", "t.safetensors"],
        "--from",
    ),
    "table of the wrong type": (["encode", "--encoder", "e5", "--out", "table.bin"], "table.bin"),
    "unknown suites": (
        ["encode", "--encoder", "e5", "--out", "t.safetensors", "--suites", "some"],
        "some",
    ),
    "unknown recipe key": (["train", "--set", "nosuch=1", "--out", "run"], "nosuch"),
    "recipe value of the wrong type": (["train", "--set", "batch=many", "--out", "run"], "batch"),
    "nothing to resume": (["train", "--resume", "--out", "run"], "run"),
    "unwritable output": (
        [
            "sample",
            "red square is above blue circle",
            "-n",
            "1",
            "--steps",
            "1",
            "--out",
            "file/p.png",
        ],
        "file",
    ),
    "no steps": (["sample", "red square is above blue circle", "--steps", "0"], "0 steps"),
    "too many steps": (
        ["sample", "red square is above blue circle", "--steps", "1001"],
        "1001 steps",
    ),
    "unknown preset to measure": (["bench", "--preset", "huge"], "micro"),
    "file of a sweep that is no table": (
        ["ablate", "--head", "L3H2", "--method", "zero", "--out", "file"],
        "no table",
    ),
    "file of runs that is no table": (["rewire", "--word", "shape2", "--out", "file"], "no table"),
    "no such notebook": (["notebooks", "--only", "nosuch"], "nosuch"),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_one_line_and_status_2(relcore, case, tmp_path):
    arguments, named = BAD_INPUT[case]
    (tmp_path / "file").write_text("a file where a folder is needed")
    done = relcore(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    message = done.stderr.strip().splitlines()[-1]
    assert message.startswith("relcore: ") and named in message
    assert "Traceback" not in done.stderr
    assert (tmp_path / "file").read_text() == "a file where a folder is needed"


@pytest.mark.parametrize(
    "arguments",
    [
        ["sample", "red square is above blue circle", "--seed", -1],
        ["train", "--out", "run", "--seed", -1],
        ["train", "--out", "run", "--threads", -1],
    ],
    ids=["seed", "seed of training", "threads"],
)
def test_negative_numbers_are_refused_before_anything_is_done(relcore, arguments, tmp_path):
    done = relcore(*arguments, cwd=tmp_path)
    assert done.returncode == 2 and done.stdout == "" and list(tmp_path.iterdir()) == []
    assert arguments[-2] in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["robustness", "--template", "is-the"],
        ["evaluate", "--phrases", "all", "--template", "is-the"],
        ["sample", suite()[0], suite(PHRASES, "is-the")[12], "-n", 64],
    ],
    ids=lambda arguments: arguments[0],
)
def test_an_encoder_that_is_missing_is_missed_before_a_picture_is_drawn(
    relcore, monkeypatch, tmp_path, arguments
):
    def missing(*_):
        raise RelcoreError("the encoder 'e5' needs the package transformers")

    monkeypatch.setattr(contextual, "make_contextual", missing)
    for module in (evaluation, diffusion):
        monkeypatch.setattr(module, "sample", lambda *_, **__: pytest.fail("a picture was drawn"))
    done = relcore(*arguments, "--model", "e5-micro", cwd=tmp_path)
    assert (
        done.returncode == 2
        and "needs the package transformers" in done.stderr
        and "%" not in done.stderr
    )


@pytest.mark.parametrize("debug, status", [([], 2), (["--debug"], 1)])
def test_a_process_of_its_own_ends_with_the_status_and_with_the_traceback_only_if_asked(
    debug, status
):
    command = [
        sys.executable,
        "-m",
        "relcore.cli",
        "sample",
        "green square is above blue circle",
        *debug,
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == status and done.stdout == "" and "green" in done.stderr
    assert ("Traceback" in done.stderr) == bool(debug)


def test_interrupted_training_saves_and_goes_on(relcore, tmp_path):
    command = [
        sys.executable,
        "-m",
        "relcore.cli",
        "train",
        *TINY,
        "--samples",
        "100000",
        "--out",
        "run",
    ]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "run" / "config.json").exists():
        time.sleep(0.2)
    time.sleep(3)
    os.kill(process.pid, signal.SIGINT)
    message = process.communicate(timeout=60)[1].strip().splitlines()[-1]
    assert process.returncode == 2 and "--resume" in message
    assert (tmp_path / "run" / "state.safetensors").exists()
    refused = relcore("train", *TINY, "--samples", 100000, "--out", "run", cwd=tmp_path)
    assert refused.returncode == 2 and "--resume" in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train"], "say what to train"),
        (["train", "rte-macro"], "no run 'rte-macro' in runs.yaml: add a line"),
        (["run", "guesses", "--run", "rte-nano"], "unknown experiment 'guesses': choose from"),
        (["run", "masks", "--run", "a", "--run", "b", "--out", "t.parquet"], "give one --run"),
    ],
    ids=" ".join,
)
def test_runs_and_experiments_that_are_not_there(relcore, tmp_path, arguments, message):
    done = relcore(*arguments, cwd=tmp_path)
    assert done.returncode == 2 and message in done.stderr and not list(tmp_path.iterdir())


def test_a_declared_run_is_trained_without_further_options(relcore, tmp_path, monkeypatch):
    trained = []

    def begin(config, out, **_):
        trained.append((config, out))
        raise RelcoreError("enough")

    monkeypatch.setattr(training, "Run", begin)
    relcore("train", "e5-slow-mini", cwd=tmp_path)
    relcore("train", "e5-slow-mini", "--samples", 640, "--out", "mine", cwd=tmp_path)
    (config, out), (shorter, named) = trained
    assert (config.preset, config.encoder, config.caption_lr) == ("mini", "e5", 1e-4)
    assert str(out) == "runs/e5-slow-mini" and str(named) == "mine"
    assert shorter == replace(config, samples=640)
