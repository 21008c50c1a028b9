"""The same request in other words: which wordings does a network still obey, and what moves it?

Both colours are named. Every prompt has the same noise in every wording.
"""

from functools import partial

from experiments.shared import drawn, every_phrase
from relcore.data.prompts import TEMPLATES, compose, parse, rewrite
from relcore.experiment import experiment

SYNONYMS = ("crimson", "navy")  # of one colour each
SUITES = (*TEMPLATES, *SYNONYMS)


@experiment(runs="learned and keeps == 'weights'", minutes=6, seeds=1, prompts=every_phrase)
def robustness(model, prompts, seeds):
    """The scorer's verdicts on every training prompt in other templates and with colour synonyms.

    suite ("train" is the training template); form ("both" colours named); prompt (as reworded),
    seed (the same for a prompt in all suites), relation, and the scorer's verdicts; dx, dy: where
    object 1 lies from object 2, in canvas units, y downwards (NaN unless both are there).
    """
    for suite in SUITES:
        yield suite, partial(in_words, model, prompts, seeds, suite)


def in_words(model, prompts, seeds, suite):
    """The rows of one suite."""
    texts = [reworded(prompt, suite) for prompt in prompts]
    return drawn(model, texts, seeds, "both").assign(suite=suite)


def reworded(prompt: str, suite: str) -> str:
    """A training prompt in another template, or with a colour's synonym."""
    if suite in SYNONYMS:
        return rewrite(prompt, suite)
    read = parse(prompt)
    words = [prompt[start:end] for start, end, role in read.spans if role == "relation"]
    return compose(read.colors, read.shapes, " ".join(words), suite)
