"""The explorable figures of two networks, for the pages that the browser tests look at."""

import pandas as pd

import relcore as rc
from relcore.paths import RESULTS
from relcore.view import explore

RUNS = ("rte-mini", "e5-mini")


def figures():
    """{name: widget}"""
    models = [rc.load(run) for run in RUNS]
    tables = [pd.read_parquet(RESULTS / f"synopsis/{run}.parquet") for run in RUNS]
    return {
        "network": explore.network(models),
        "synopsis": explore.synopsis(models, tables),
        "screening": explore.screening(models),
        "arithmetic": explore.arithmetic(models),
    }
