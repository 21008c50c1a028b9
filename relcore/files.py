"""Files: every write replaces its file in one step, every read is checked, and nothing is ever
unpickled.
"""

import hashlib
import json
import os
import tempfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .errors import RelcoreError


@contextmanager
def replacing(path: Path):
    """Give a temporary path; put it in the place of `path` on success, remove it on failure.

    The old file stays whole whatever happens: full disk, Ctrl-C, a failed write.
    """
    temporary = _temporary(path)
    try:
        yield temporary
        temporary.chmod(0o644)
        temporary.replace(path)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RelcoreError(
            f"could not write '{path}': {reason}: the old file is untouched; "
            "make room for the new one, then try again"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def check_writable(*paths: Path) -> None:
    """RelcoreError unless each path can be written now, as `replacing` will. Leaves nothing behind,
    makes no folder.
    """
    for path in paths:
        if os.path.exists(path) and not os.path.isfile(path):
            raise RelcoreError(
                f"cannot write '{path}': it is there and is no file: choose another name"
            )
        _temporary(path, next(p for p in path.absolute().parents if os.path.lexists(p))).unlink()


def _temporary(path: Path, folder: Path | None = None) -> Path:
    """A new empty file, named for `path`, in a folder; by default in its own, which is made."""
    try:
        if not folder:
            path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(
            dir=folder or path.parent, prefix=f".{path.name}.", suffix=path.suffix
        )
    except OSError as error:
        raise RelcoreError(
            f"cannot write to '{path.parent}' ({error.strerror}): it must be a folder in which "
            f"you may make '{path.name}'"
        ) from error
    os.close(handle)
    return Path(name)


def write_json(path: Path, value) -> None:
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def write_png(path: Path, picture: np.ndarray) -> None:
    """One picture, uint8 [y, x, rgb]."""
    with replacing(path) as temporary:
        Image.fromarray(picture).save(temporary, format="PNG")


def write_tensors(path: Path, tensors: dict[str, Tensor], header: dict) -> None:
    """Tensors and a header of JSON values into a safetensors file, with the hash of both for
    `read_tensors`.
    """
    with replacing(path) as temporary:
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        header = {**header, "contents": _contents(tensors, header)}
        # One key only: safetensors writes several in random order, and equal contents must be equal
        # files.
        save_file(tensors, temporary, metadata={"relcore": json.dumps(header)})


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict]:
    """Tensors and header of a file written by `write_tensors`; RelcoreError on any damage.

    Of files older than the hash in the header, only damage to their structure is seen.
    """
    try:
        with safe_open(path, "pt") as file:
            header = json.loads((file.metadata() or {}).get("relcore", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if header.pop("contents", None) not in (None, _contents(tensors, header)):
            raise ValueError("its contents are not those that were written")
    except FileNotFoundError as error:
        raise RelcoreError(f"no such file: '{path}'") from error
    except (SafetensorError, OSError, ValueError, RuntimeError, TypeError, AttributeError) as error:
        raise RelcoreError(
            f"'{path}' is damaged or not a safetensors file ({error}): fetch it again"
        ) from error
    return tensors, header


def _contents(tensors: dict[str, Tensor], header: dict) -> str:
    """sha256 of a header and of tensors on the CPU, with their names, types and shapes."""
    digest = hashlib.sha256(json.dumps(header).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def sha256(path: Path) -> str:
    with path.open("rb") as file:  # in pieces: T5-XXL's weights are larger than most memories
        return hashlib.file_digest(file, "sha256").hexdigest()
