"""Where the project's files lie, found from the package and never from the working directory."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CHECKPOINTS = ROOT / "checkpoints"
RESULTS = ROOT / "results"
TABLES = ROOT / "tables"
NOTEBOOKS = ROOT / "notebooks"
