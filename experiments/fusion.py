"""How much of each word is the relation, as encoded and after the caption MLP.

The words' vectors over a closed suite of prompts are explained by the prompts' factors
(`relcore.kernels.factors`). No picture is drawn.
"""

from functools import partial

from relcore.experiment import experiment
from relcore.kernels.factors import fusion as partition

ENCODED, READ = "as encoded", "after the caption MLP"  # the parts


@experiment(
    runs="learned and keeps == 'weights' and encoder in ('e5', 'minilm')",
    minutes=0.5,
)
def fusion(model):
    """The relation's share of the variance of every word, and whether a probe can read it.

    part (as encoded, or after the caption MLP); token (color1, shape1, color2, shape2, relation);
    measure; value; low, high: 95 % interval (Wilson) of a probe's accuracy, NaN otherwise; p: of a
    permutation test, NaN where there is none; n: prompts.

    Measures over the 264 prompts: partial R² of "own object", "relation", "other shape", R² of the
    relation alone ("relation, marginal") and of "all". Over the 96 canonical ones: the share of
    the "relation at equal length" of the phrase, and the accuracy of a linear probe at shapes it
    has not seen ("relation, new shape").
    """
    for stage, mlp in ((ENCODED, None), (READ, model.network.caption_mlp)):
        yield stage, partial(partition, model.encoder, mlp)
