"""Checkpoints: round trip, every kind of damage, writes that fail half way."""

import json
import os

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from relcore import files
from relcore.errors import RelcoreError
from relcore.files import read_tensors, replacing, sha256, write_json, write_tensors
from relcore.model import checkpoints
from relcore.model.checkpoints import find, load_model, manifest, save_model

HEADER = {
    "recipe": {"seed": 3, "lr": 1e-3},
    "provenance": {"commit": "abc"},
    "metrics": {"color": {"value": 0.97, "n": 960}},
}


@pytest.fixture
def shipped(tmp_path, tiny):
    """A folder with one shipped checkpoint, "small", and its manifest."""
    path = tmp_path / "small.safetensors"
    save_model(path, tiny.state_dict(), tiny.config, HEADER)
    write_json(
        tmp_path / "MANIFEST.json", {"small": {"sha256": sha256(path), "size": path.stat().st_size}}
    )
    return path


def refusal(name, folder) -> str:
    with pytest.raises(RelcoreError) as error:
        load_model(str(name), folder)
    message = str(error.value)
    assert "\n" not in message
    return message


def reseal(path) -> None:
    """Write the manifest anew, so that the hash agrees with whatever the file holds."""
    write_json(path.parent / "MANIFEST.json", {path.stem: {"sha256": sha256(path)}})


def test_round_trip_rounds_to_bf16_and_keeps_the_header(shipped, tiny):
    model, header = load_model("small", shipped.parent)
    for name, tensor in model.state_dict().items():
        assert tensor.dtype == torch.float32 and torch.equal(
            tensor, tiny.state_dict()[name].bfloat16().float()
        )
    assert model.config == tiny.config and not model.training
    assert not any(p.requires_grad for p in model.parameters())
    assert {key: header[key] for key in HEADER} == HEADER


def test_fp32_round_trip_is_exact(tmp_path, tiny):
    save_model(tmp_path / "m.safetensors", tiny.state_dict(), tiny.config, {}, torch.float32)
    model, _ = load_model(str(tmp_path / "m.safetensors"), tmp_path)
    assert all(
        torch.equal(a, b)
        for a, b in zip(model.state_dict().values(), tiny.state_dict().values(), strict=True)
    )


def test_found_by_name_by_path_and_by_run_folder(shipped, tmp_path, tiny):
    run = tmp_path / "run"
    save_model(run / "model.safetensors", tiny.state_dict(), tiny.config, {})
    assert find("small", tmp_path) == shipped == find(str(shipped), tmp_path)
    assert find(str(run), tmp_path) == run / "model.safetensors"


# --- damage


@pytest.mark.parametrize("keep", [0, 4, 500, -1])
def test_truncated_file(shipped, keep):
    shipped.write_bytes(shipped.read_bytes()[:keep])
    assert str(shipped) in refusal("small", shipped.parent)
    reseal(shipped)  # and without the help of the hash
    assert str(shipped) in refusal("small", shipped.parent)


@pytest.mark.parametrize("by", ["name", "path"])
def test_flipped_bit_of_a_shipped_file(shipped, by):
    data = bytearray(shipped.read_bytes())
    data[-1000] ^= 1
    shipped.write_bytes(data)
    message = refusal("small" if by == "name" else shipped, shipped.parent)
    assert str(shipped) in message and "sha256" in message and "git" in message


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The bytes of a file of tensors in every type that is kept, and what they hold."""
    tensors = {
        "a": torch.arange(6.0).view(2, 3),
        "b": torch.ones(2, dtype=torch.bfloat16),
        "step": torch.tensor(7.0),
        "roles": torch.arange(3, dtype=torch.int8),
        "none": torch.zeros(0, 4),
    }
    path = tmp_path_factory.mktemp("written") / "t.safetensors"
    write_tensors(path, tensors, HEADER)
    return path, path.read_bytes(), tensors


def test_tensors_and_header_come_back_as_they_were(written):
    path, _, tensors = written
    back, header = read_tensors(path)
    assert header == HEADER and back.keys() == tensors.keys()
    assert all(back[k].dtype == t.dtype and torch.equal(back[k], t) for k, t in tensors.items())


@given(st.data())
@settings(max_examples=300)
def test_no_flipped_bit_changes_what_is_read(written, data):
    path, whole, tensors = written
    damaged = bytearray(whole)
    damaged[data.draw(st.integers(0, len(whole) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    flipped = path.with_name("flipped.safetensors")
    flipped.write_bytes(damaged)
    try:
        back, header = read_tensors(flipped)
    except RelcoreError as error:
        assert str(flipped) in str(error)  # noqa: PT017
    else:  # in what says nothing: the padding, or the name of the hash
        assert {key: header.get(key) for key in HEADER} == HEADER or header == {}
        assert all(torch.equal(back[k], t) for k, t in tensors.items())


def test_flipped_bit_of_a_checkpoint_opened_by_path(tmp_path, tiny):
    path = tmp_path / "mine.safetensors"
    save_model(path, tiny.state_dict(), tiny.config, HEADER)
    data = bytearray(path.read_bytes())
    data[-1000] ^= 1
    path.write_bytes(data)
    assert "mine.safetensors" in refusal(path, tmp_path / "elsewhere")


def test_file_older_than_the_hash_in_its_header(tmp_path, tiny):
    path = tmp_path / "old.safetensors"
    header = {**HEADER, "config": vars(tiny.config)}
    save_file(dict(tiny.state_dict()), path, {"relcore": json.dumps(header)})
    model, read = load_model(str(path), tmp_path / "elsewhere")
    assert read == header
    assert all(
        torch.equal(a, b)
        for a, b in zip(model.state_dict().values(), tiny.state_dict().values(), strict=True)
    )


def test_shipped_file_that_is_missing(shipped):
    shipped.unlink()
    message = refusal("small", shipped.parent)
    assert str(shipped) in message and "missing" in message


def test_released_model_whose_checkpoint_is_not_shipped(shipped):
    file = shipped.parent / "MANIFEST.json"
    entries = json.loads(file.read_text())
    entry = {
        **entries["small"],
        "preset": "micro",
        "encoder": "e5",
        "seed": 3,
        "samples": 96000,
        "shipped": False,
        "note": "Trained with --set captions=paper.",
    }
    file.write_text(json.dumps({**entries, "other-s3": entry}))
    assert set(manifest(shipped.parent)) == {"small", "other-s3"}
    assert set(checkpoints.shipped(shipped.parent)) == {"small"}
    message = refusal("other-s3", shipped.parent)
    assert (
        "'other-s3'" in message
        and "--preset micro --encoder e5 --seed 3 --samples 96000" in message
    )
    assert "release" in message and message.endswith(entry["note"])


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_weights_that_are_not_numbers(shipped, tiny, value):
    weights = tiny.state_dict()
    weights["blocks.1.attn.W_K.weight"][3, 4] = value
    save_model(shipped, weights, tiny.config, HEADER)
    reseal(shipped)
    message = refusal("small", shipped.parent)
    assert str(shipped) in message and "blocks.1.attn.W_K.weight" in message


def header_and_weights(tiny) -> tuple[dict, dict]:
    return {"format": "relcore", "config": vars(tiny.config) | {}}, {
        k: v.contiguous() for k, v in tiny.state_dict().items()
    }


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"depth": 3}, id="deeper"),
        pytest.param({"depth": 1}, id="shallower"),
        pytest.param({"width": 192}, id="wider"),
        pytest.param({"text_dim": 64}, id="other text"),
        pytest.param({"width": 100}, id="impossible width"),
        pytest.param({"patch": 0}, id="no patch"),
        pytest.param({"width": -128}, id="negative width"),
        pytest.param({"width": "128"}, id="not a number"),
        pytest.param({"depht": 2}, id="unknown field"),
    ],
)
def test_config_and_weights_that_disagree(shipped, tiny, change):
    header, weights = header_and_weights(tiny)
    header["config"] = header["config"] | change
    save_file(weights, shipped, {k: json.dumps(v) for k, v in header.items()})
    reseal(shipped)
    assert str(shipped) in refusal("small", shipped.parent)


def test_a_tensor_too_few_or_too_many(shipped, tiny):
    for name in ("unembed.bias", "blocks.7.mlp.0.bias"):
        weights = dict(tiny.state_dict())
        if name in weights:
            del weights[name]
        else:
            weights[name] = torch.zeros(3)
        save_model(shipped, weights, tiny.config, HEADER)
        reseal(shipped)
        message = refusal("small", shipped.parent)
        assert str(shipped) in message and name in message


@pytest.mark.parametrize(
    "metadata",
    [
        None,
        {"relcore": "[1]"},
        {"relcore": '"1"'},
        {"format": "pt"},
        {"format": '"relcore"'},
        {"format": '"relcore"', "config": "[1]"},
    ],
)
def test_safetensors_file_of_somebody_else(shipped, tiny, metadata):
    save_file(dict(tiny.state_dict()), shipped, metadata)
    reseal(shipped)
    assert str(shipped) in refusal("small", shipped.parent)


def test_any_other_file(shipped):
    shipped.write_text("hello\n")
    reseal(shipped)
    assert str(shipped) in refusal("small", shipped.parent)


@pytest.mark.parametrize("name", ["enormous", "no/such/file.safetensors", "../", ""])
def test_unknown_name_or_missing_file_lists_the_choices(shipped, name):
    message = refusal(name, shipped.parent)
    assert f"'{name}'" in message and "small" in message


def test_manifest_that_cannot_be_read(shipped):
    (shipped.parent / "MANIFEST.json").write_text("{")
    assert "MANIFEST.json" in refusal("small", shipped.parent)
    assert manifest(shipped.parent / "nowhere") == {}


def test_reading_a_file_that_is_not_there(tmp_path):
    with pytest.raises(RelcoreError, match="nothing.safetensors"):
        read_tensors(tmp_path / "nothing.safetensors")


# --- writes that fail


def test_full_disk_leaves_the_old_file_and_no_other(shipped, tiny, monkeypatch):
    before = {p: p.read_bytes() for p in shipped.parent.iterdir()}

    def full(tensors, filename, metadata=None):
        with open(filename, "wb") as file:
            file.write(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "save_file", full)
    with pytest.raises(RelcoreError) as error:
        save_model(shipped, tiny.state_dict(), tiny.config, HEADER)
    assert str(shipped) in str(error.value) and "No space left" in str(error.value)
    assert {p: p.read_bytes() for p in shipped.parent.iterdir()} == before


def test_picture_that_cannot_be_written(tmp_path, monkeypatch):
    def full(self, file, format):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.Image.Image, "save", full)
    with pytest.raises(RelcoreError, match="p.png.*No space left"):
        files.write_png(tmp_path / "p.png", np.zeros((8, 8, 3), np.uint8))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("stop", [KeyboardInterrupt, ValueError])
def test_interrupted_write_leaves_the_old_file_and_no_other(tmp_path, stop):
    (tmp_path / "file.txt").write_text("old")
    with pytest.raises(stop), replacing(tmp_path / "file.txt") as temporary:
        temporary.write_text("new")
        raise stop
    assert [p.name for p in tmp_path.iterdir()] == ["file.txt"] and (
        tmp_path / "file.txt"
    ).read_text() == "old"


def test_finished_write_replaces_the_file(tmp_path):
    (tmp_path / "file.txt").write_text("old")
    with replacing(tmp_path / "file.txt") as temporary:
        temporary.write_text("new")
        assert (tmp_path / "file.txt").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file.txt"] and (
        tmp_path / "file.txt"
    ).read_text() == "new"


def test_folder_that_cannot_be_made(tmp_path, tiny):
    (tmp_path / "file").write_text("")
    with pytest.raises(
        RelcoreError, match="cannot write to '.*file/sub' .Not a directory.*'m.safetensors'"
    ):
        save_model(tmp_path / "file" / "sub" / "m.safetensors", tiny.state_dict(), tiny.config, {})


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write to any folder")
def test_folder_that_is_not_writable(tmp_path, tiny):
    tmp_path.chmod(0o555)
    with pytest.raises(RelcoreError, match="cannot write to"):
        save_model(tmp_path / "m.safetensors", tiny.state_dict(), tiny.config, {})
