"""Checkpoints: safetensors files that say in their own header what they are.

Header: `config` (architecture), `recipe` (how it was trained); of a released model also
`provenance` (commit, torch and machine of the release) and `metrics` (with n and intervals). It
stands in MANIFEST.json with the sha256 of its checkpoint; of further seeds only that and the tables
are shipped ("shipped": false), to keep the download small. Nothing is ever unpickled, and every
write replaces its file in one step.
"""

import json
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from ..errors import RelcoreError
from ..files import read_tensors, sha256, write_tensors
from ..paths import CHECKPOINTS, require_checkout
from .dit import DiT, DiTConfig
from .recipe import recipe_of

MANIFEST = "MANIFEST.json"


def manifest(folder: Path = CHECKPOINTS) -> dict[str, dict]:
    """{name: entry} of the released models, those without a checkpoint here included: see
    `shipped`.
    """
    try:
        return json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise RelcoreError(
            f"'{folder / MANIFEST}' cannot be read ({error}): restore it from git"
        ) from error


def shipped(folder: Path = CHECKPOINTS) -> dict[str, dict]:
    """{name: entry} of the released models that can be loaded by name."""
    return {name: entry for name, entry in manifest(folder).items() if entry.get("shipped", True)}


def save_model(
    path: Path,
    weights: dict[str, Tensor],
    config: DiTConfig,
    header: dict,
    dtype: torch.dtype = torch.bfloat16,
) -> None:
    """Write weights (in bf16 unless told otherwise) with their config and the rest of the
    header.
    """
    rounded = {name: tensor.to(dtype) for name, tensor in weights.items()}
    write_tensors(path, rounded, {"config": asdict(config), **header})


def find(name: str, folder: Path = CHECKPOINTS) -> Path:
    """The file of a shipped model's name, of a path, or of a training run's folder."""
    here = shipped(folder)
    if name in here:
        return folder / f"{name}.safetensors"
    if entry := manifest(folder).get(name):
        raise RelcoreError(
            f"of '{name}' only the tables are shipped; for its weights, train it again: relcore "
            f"train --preset {entry['preset']} --encoder {entry['encoder']} --seed {entry['seed']} "
            f"--samples {entry['samples']} --out runs/{name}, then relcore release runs/{name} "
            f"{name}. {entry['note']}".rstrip()
        )
    path = Path(name)
    if path.is_dir():
        path = path / "model.safetensors"
    if path.suffix == ".safetensors" and path.exists():
        return path
    if folder == CHECKPOINTS:
        require_checkout()
    raise RelcoreError(
        f"unknown model '{name}': choose from {', '.join(here) or 'none shipped'}, "
        "or give the path of a .safetensors file or of a training run's folder"
    )


def digest(name: str) -> str:
    """sha256 of the file that `find` finds: what tables say they were made with."""
    return sha256(find(name))


def load_model(name: str, folder: Path = CHECKPOINTS) -> tuple[DiT, dict]:
    """Load a model, in fp32 and eval mode, and its header, by shipped name or path.

    Raises RelcoreError when the hash, the header, the shapes or the values are not as they must be.
    """
    path = find(name, folder)
    entry = manifest(folder).get(path.stem) if path.parent.resolve() == folder.resolve() else None
    if entry and (not path.exists() or sha256(path) != entry["sha256"]):
        raise RelcoreError(
            f"'{path}' is missing or not the file that was shipped (sha256 differs from "
            f"{MANIFEST}): restore it from git"
        )
    weights, header = read_tensors(path)
    if "config" not in header:
        raise RelcoreError(f"'{path}' is not a relcore checkpoint: its header has no config")
    try:
        config = DiTConfig(**header["config"])
        with torch.device("meta"):  # nothing is drawn at random, only to be replaced
            model = DiT(config)
    except (TypeError, ValueError, RuntimeError, ZeroDivisionError, RelcoreError) as error:
        raise RelcoreError(f"'{path}' has a config this version cannot build ({error})") from error
    expected, found = (
        {n: t.shape for n, t in tensors.items()} for tensors in (model.state_dict(), weights)
    )
    if wrong := sorted(
        n for n in expected.keys() | found.keys() if expected.get(n) != found.get(n)
    ):
        raise RelcoreError(
            f"'{path}': config and weights disagree on {len(wrong)} tensors, first '{wrong[0]}' "
            f"({expected.get(wrong[0])} by the config, {found.get(wrong[0])} in the file)"
        )
    if bad := [name for name, tensor in weights.items() if not tensor.isfinite().all()]:
        raise RelcoreError(
            f"'{path}' holds NaN or infinite values in '{bad[0]}': train or fetch it again"
        )
    model.load_state_dict({name: tensor.float() for name, tensor in weights.items()}, assign=True)
    return model.eval().requires_grad_(False), header


def open_model(name: str, compiled: bool = False):
    """(model, header, encoder, noise process) of a checkpoint.

    Raises RelcoreError where `load_model` and `recipe_of` do, and if the encoder's vectors do not
    fit.
    """
    model, header = load_model(name)
    recipe = recipe_of(header)
    encoder = recipe.make_encoder()
    if encoder.dim != model.config.text_dim:
        raise RelcoreError(
            f"'{name}' reads text of width {model.config.text_dim}, '{recipe.encoder}' gives "
            f"{encoder.dim}: put back the table it was trained with"
        )
    return model.compiled() if compiled else model, header, encoder, recipe.make_process()
