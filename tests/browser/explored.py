"""The explorable figures of two networks, for the pages that the browser tests look at."""

import pandas as pd

import relcore as rc
from relcore.paths import RESULTS
from relcore.view import explore

RUNS = ("rte-mini", "e5-mini")


# Networks that run in the page, each with an example: the head without which it draws otherwise.
LIVE = {
    "rte-micro": ("L3H2", "blue circle is above red square", 2),
    "e5-micro": ("L3H1", "red circle is to the lower left of blue triangle", 1),
}


def live():
    return explore.live([rc.load(name) for name in LIVE], list(LIVE.values()))


def figures():
    """{name: widget}"""
    models = [rc.load(run) for run in RUNS]
    tables = [pd.read_parquet(RESULTS / f"synopsis/{run}.parquet") for run in RUNS]
    return {
        "network": explore.network(models),
        "synopsis": explore.synopsis(models, tables),
        "screening": explore.screening(models),
        "circuits": explore.circuits(models),
        "arithmetic": explore.arithmetic(models),
    }
