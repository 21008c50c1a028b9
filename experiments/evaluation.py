"""What a network can do: accuracy in the paper's four caption forms."""

from functools import partial

from experiments.shared import drawn, every_phrase
from relcore.data.prompts import FORMS
from relcore.experiment import experiment


@experiment(runs="keeps != 'curve'", minutes=4, seeds=2, prompts=every_phrase)
def evaluation(model, prompts, seeds):
    """The scorer's verdicts on every training prompt, in each of the four caption forms."""
    for form in FORMS:
        yield form, partial(drawn, model, prompts, seeds, form)
