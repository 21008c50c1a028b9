"""What several experiments share."""

import pandas as pd

from relcore.data.prompts import PHRASES, in_form, suite
from relcore.face import Model


def every_phrase() -> list[str]:
    """The 264 training prompts, both colours named."""
    return suite(PHRASES)


def request(prompts: pd.Series) -> pd.Series:
    """Each prompt without its colours: what all its captions ask for alike, shapes and relation."""
    return prompts.map({prompt: in_form(prompt, "neither") for prompt in prompts.unique()})


def drawn(model: Model, prompts: list[str], seeds: list[int], form: str, **options) -> pd.DataFrame:
    """`Model.evaluate` of the prompts in a caption form, with a column `form`.

    The same prompt has the same noise in every form and under every intervention.
    """
    texts = [in_form(prompt, form) for prompt in prompts]
    return model.evaluate(texts, seeds, **options).assign(form=form)
