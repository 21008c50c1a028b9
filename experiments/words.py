"""Whether words of one meaning come together on their way into the relation head."""

from functools import partial
from itertools import combinations

import pandas as pd

from relcore.experiment import experiment
from relcore.kernels.composition import relation_heads
from relcore.kernels.geometry import SYNONYMS, UNSEEN, word_cosines


@experiment(runs="encoder == 'rte' and learned and keeps == 'weights'", minutes=0.1)
def words(model):
    """Cosines between direction words as encoded, after the caption MLP, and as keys.

    One row per pair of words and stage, all words at one place in the text:
    head           the relation head whose keys they are, such as "L3H2"; rank: 1 is the strongest
    stage          encoded, after the caption MLP, keys
    first, second  the two words
    same           whether they have one meaning
    trained        whether both stand in the training phrases
    cosine
    """
    for rank, head in enumerate(relation_heads(model.network, model.encoder), 1):
        yield str(head), partial(pairs, model, head, rank)


def pairs(model, head, rank) -> pd.DataFrame:
    """The rows of one head."""
    meaning = {word: k for k, group in enumerate(SYNONYMS.values()) for word in group}
    rows = [
        (stage, a, b, meaning[a] == meaning[b], not {a, b} & {*UNSEEN}, table.loc[a, b])
        for stage, table in word_cosines(model.network, model.encoder, head).items()
        for a, b in combinations(table.columns, 2)
    ]
    columns = ["stage", "first", "second", "same", "trained", "cosine"]
    return pd.DataFrame(rows, columns=columns).assign(head=str(head), rank=rank)
