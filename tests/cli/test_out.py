"""Results have a place: it is tried before any work, and what was computed is printed before it is
written.
"""

import json
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relcore import files, options, paths
from relcore.data import contextual, encoders
from relcore.kernels import interventions, synopsis
from relcore.model import checkpoints, evaluation, recipe
from relcore.model.evaluation import batches
from relcore.view import notebooks

PROMPT = "red square is above blue circle"
FAST = ["--model", "rte-nano", "--steps", 1, "--guidance", 1]
TABLES = {
    name: [name] for name in ("evaluate", "fusion", "synopsis", "screen", "rewire", "robustness")
}
TABLES |= {"ablate": ["ablate", "--head", "L0H0"]}
WRITERS = {
    **TABLES,
    "sample": ["sample", PROMPT],
    "encode": ["encode", "--encoder", "e5"],
    "train": ["train"],
}
FILE = "file"
PLACES = {
    "below a file": f"{FILE}/{{}}",
    "far below a file": f"{FILE}/a/b/{{}}",
    "name too long": "n" * 250 + "{}",
    "below a link to nowhere": "link/{}",
    "a folder": "folder{}",
    "a device": "device{}",
    "another kind": "table.xyz",
}
ENDING = {"encode": ".safetensors", "sample": ".png"}


@pytest.fixture
def no_work(monkeypatch):
    """Whatever the commands begin their work with fails."""
    for owner, name in (
        (checkpoints, "load_model"),
        (encoders, "make_encoder"),
        (recipe, "make_encoder"),
        (contextual, "make_contextual"),
    ):
        monkeypatch.setattr(
            owner, name, lambda *_, **__: pytest.fail("work was done before the place was tried")
        )


@pytest.fixture
def crowded(tmp_path):
    """A folder in which places are taken."""
    (tmp_path / FILE).write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for ending in (".parquet", ".safetensors", ".png"):
        (tmp_path / f"folder{ending}").mkdir()
        os.mkfifo(tmp_path / f"device{ending}")
    return tmp_path


def refused(relcore, arguments, cwd: Path) -> str:
    before = sorted(cwd.rglob("*"))
    done = relcore(*arguments, cwd=cwd)
    message = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 2 and done.stdout == "" and message.startswith("relcore: ")
    assert sorted(cwd.rglob("*")) == before and (cwd / FILE).read_text() == "mine"
    return message


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.sampled_from(sorted(WRITERS.keys() - {"train"})), st.sampled_from(sorted(PLACES)))
def test_a_place_that_cannot_be_written_is_refused_before_any_work(
    no_work, crowded, relcore, command, place
):
    out = PLACES[place].format(ENDING.get(command, ".parquet"))
    assert out.split("/")[0] in refused(relcore, [*WRITERS[command], "--out", out], crowded)


@pytest.mark.parametrize("place", [FILE, f"{FILE}/run", "link/run", "taken"])
def test_a_run_whose_files_cannot_be_written_is_refused_before_any_work(
    no_work, crowded, relcore, place
):
    # A folder in the place of one of its files.
    (crowded / "taken" / "metrics.parquet").mkdir(parents=True)
    assert place.split("/")[0] in refused(relcore, ["train", "--out", place], crowded)


@pytest.mark.parametrize("command", WRITERS)
def test_a_folder_without_permission_is_refused_before_any_work(
    no_work, crowded, relcore, monkeypatch, command
):
    def denied(**_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(files.tempfile, "mkstemp", denied)  # root may write to any folder
    out = f"closed/a{ENDING.get(command, '.parquet')}"
    message = refused(relcore, [*WRITERS[command], "--out", out], crowded)
    assert "closed" in message and "Permission denied" in message


def test_pictures_in_a_folder_of_that_name_are_refused_before_any_work(no_work, crowded, relcore):
    (crowded / "pictures" / "red-square-is-above-blue-circle-s1.png").mkdir(parents=True)
    assert "-s1.png" in refused(relcore, ["sample", PROMPT, "--out", "pictures"], crowded)


@pytest.mark.parametrize("command", ["evaluate", "fusion", "synopsis", "screen", "sample"])
def test_what_was_computed_is_printed_though_it_cannot_be_written(
    relcore, tmp_path, monkeypatch, command
):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    for module in (evaluation, synopsis):  # a few pictures will do
        monkeypatch.setattr(module, "batches", lambda prompts, *rest: batches(prompts[::24], *rest))
    model = {"fusion": ["--model", "rte-micro"], "screen": ["--model", "rte-nano"], "synopsis": []}
    done = relcore(
        *WRITERS[command],
        *model.get(command, FAST),
        "--out",
        tmp_path / f"a{ENDING.get(command, '.parquet')}",
        "--json",
    )
    assert (
        done.returncode == 2 and "No space left" in done.stderr and list(tmp_path.iterdir()) == []
    )
    assert json.loads(done.stdout).keys() & {"metrics", "words", "heads", "images"}


def test_what_was_computed_is_written_though_nobody_reads_it(monkeypatch):
    def gone(*_):
        raise BrokenPipeError

    written = []
    monkeypatch.setattr(options.typer, "echo", gone)
    with pytest.raises(BrokenPipeError):
        options.emit(False, {}, "text", lambda: written.append(True))
    assert written


def test_a_sweep_that_is_done_draws_no_reference(relcore, tmp_path, monkeypatch):
    arguments = ["ablate", "--head", "L0H0", *FAST, "--out", tmp_path / "heads.parquet", "--json"]
    first = relcore(*arguments)
    assert first.returncode == 0, first.stderr
    monkeypatch.setattr(
        interventions, "sample", lambda *_, **__: pytest.fail("nothing is left to draw")
    )
    assert relcore(*arguments).stdout == first.stdout
    refused = relcore(*arguments, "--seed", 1)
    assert refused.returncode == 2 and "another" in refused.stderr and "seeds" in refused.stderr


def test_full_notebooks_try_the_place_of_their_tables(relcore, crowded, monkeypatch):
    monkeypatch.setattr(notebooks, "run_all", lambda **_: pytest.fail("notebooks were run"))
    monkeypatch.setattr(paths, "RESULTS", crowded / FILE)
    assert FILE in refused(relcore, ["notebooks", "--full"], crowded)
