"""Every module can be imported, and imports point one way: data -> model -> kernels -> view."""

import ast
import importlib
import pkgutil
from pathlib import Path

import pytest

import relcore

LAYERS = ("data", "model", "kernels", "view")
FILES = [
    file for layer in LAYERS for file in sorted((Path(relcore.__path__[0]) / layer).glob("*.py"))
]


@pytest.mark.parametrize(
    "name", [module.name for module in pkgutil.walk_packages(relcore.__path__, "relcore.")]
)
def test_every_module_can_be_imported(name):
    importlib.import_module(name)


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}.{file.stem}")
def test_imports_point_one_way(file):
    imports = [
        node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.ImportFrom)
    ]
    layers = {node.module.split(".")[0] for node in imports if node.level == 2 and node.module}
    assert not layers & set(LAYERS[LAYERS.index(file.parent.name) + 1 :])
    # Relative: the check above sees them.
    assert not any((node.module or "").startswith("relcore") for node in imports)
