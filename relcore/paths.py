"""Where the project's files lie: in a checkout, as models, tables and notebooks are not part of the
package.
"""

import os
from pathlib import Path

from .errors import RelcoreError

# The folder around the package: a checkout, or site-packages.
SOURCE = Path(__file__).resolve().parents[1]
MARK = "checkpoints/MANIFEST.json"


def _root() -> Path:
    """RELCORE_HOME, if set; else SOURCE, if a checkout; else the checkout around the working
    directory, or that.
    """
    if home := os.environ.get("RELCORE_HOME"):
        return Path(home).resolve()
    if (SOURCE / MARK).exists():
        return SOURCE
    here = Path.cwd()
    return next((folder for folder in (here, *here.parents) if (folder / MARK).exists()), here)


ROOT = _root()
CHECKPOINTS = ROOT / "checkpoints"
RESULTS = ROOT / "results"
TABLES = ROOT / "tables"
NOTEBOOKS = ROOT / "notebooks"


def require_checkout() -> None:
    """RelcoreError unless ROOT is a checkout."""
    if not (ROOT / MARK).exists():
        raise RelcoreError(
            f"'{ROOT}' is no checkout of relcore, and the package alone has no models, tables and "
            "notebooks: clone the repository, then work in it or set RELCORE_HOME to its folder"
        )
