"""What is shipped agrees with what is said about it."""

import re

import pandas as pd
import pytest

from relcore.data.scoring import METRICS, summarise
from relcore.model.checkpoints import digest, load_model, manifest, shipped
from relcore.paths import CHECKPOINTS, RESULTS, ROOT

RELEASED, SHIPPED = sorted(manifest()), sorted(shipped())


@pytest.mark.parametrize("name", SHIPPED)
def test_checkpoint_loads_and_its_header_agrees_with_the_manifest(name):
    _, header = load_model(name)  # checks the hash, the shapes and the values
    entry = manifest()[name]
    assert header["metrics"] == entry["metrics"]
    assert (header["recipe"]["preset"], header["recipe"]["encoder"]) == (
        entry["preset"],
        entry["encoder"],
    )


@pytest.mark.parametrize("name", RELEASED)
def test_metrics_of_the_manifest_come_from_the_shipped_tables(name):
    for suite, metrics in manifest()[name]["metrics"].items():
        table = pd.read_parquet(RESULTS / "evaluations" / f"{name}-{suite}.parquet")
        assert table.attrs["checkpoint"] == (
            digest(name) if name in SHIPPED else manifest()[name]["sha256"]
        )
        stored = summarise(table)
        assert all(
            metrics[m][key] == stored[m][key]
            for m in METRICS
            for key in ("value", "low", "high", "n")
        )


def test_no_checkpoint_is_left_out_of_the_manifest():
    files = {p.stem: p.stat().st_size for p in CHECKPOINTS.glob("*.safetensors")}
    assert files == {name: shipped()[name]["bytes"] for name in SHIPPED}
    assert sum(files.values()) < 150e6


def test_the_readme_quotes_the_manifest():
    rows = re.findall(
        r"^\| `(\S+)`, (\w+) phrases \|(.*)\|$", (ROOT / "README.md").read_text(), re.M
    )
    assert rows
    for name, suite, cells in rows:
        metrics = manifest()[name]["metrics"]["canonical" if suite == "canonical" else "phrases"]
        assert [c.strip() for c in cells.split("|")] == [
            f"{metrics[m]['value']:.3f}" for m in METRICS
        ]
