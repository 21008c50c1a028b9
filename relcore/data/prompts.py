"""Prompts: how a scene is put into words, and which word plays which role.

A prompt is `colour1 shape1 [is] relation-phrase colour2 shape2`, read by `parse`; the perturbation
suites of the robustness chapter are the TEMPLATES other than "train".
"""

import itertools
import re
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ..errors import RelcoreError, require
from .scenes import COLORS, RELATIONS, SHAPES, Scenes

ROLES = ("color1", "shape1", "relation", "color2", "shape2", "filler", "special")
WORD_ROLES = ROLES[:5]  # of the words that say what to draw

# The paper's 22 training phrases; the first of each relation is the canonical one.
PHRASES = {
    "above": ("above", "directly above", "higher than"),
    "below": ("below", "directly below", "lower than"),
    "left": ("to the left of", "left of"),
    "right": ("to the right of", "right of"),
    "upper left": (
        "to the upper left of",
        "above and to the left of",
        "diagonally up and left from",
    ),
    "upper right": (
        "to the upper right of",
        "above and to the right of",
        "diagonally up and right from",
    ),
    "lower left": (
        "to the lower left of",
        "below and to the left of",
        "diagonally down and left from",
    ),
    "lower right": (
        "to the lower right of",
        "below and to the right of",
        "diagonally down and right from",
    ),
}
CANONICAL = {relation: (phrases[0],) for relation, phrases in PHRASES.items()}
SYNONYMS = {
    "crimson": "red",
    "scarlet": "red",
    "navy": "blue",
    "azure": "blue",
    "box": "square",
    "pyramid": "triangle",
    "disc": "circle",
}
RELATION_SYNONYMS = {
    "above": "over",
    "below": "under",
    "left": "leftward of",
    "right": "rightward of",
}

# {a} and {b} are "colour shape" of the first and the second object, {r} the relation phrase. Where
# "the" stands before one object alone, reversed suites are named after that object.
TEMPLATES = {
    "train": "{a} is {r} {b}",
    "is-the": "{a} is {r} the {b}",
    "no-is": "{a} {r} {b}",
    "no-is-the": "{a} {r} the {b}",
    "the-the": "the {a} is {r} the {b}",
    "articles": "a {a} is {r} a {b}",
    "filler": "there {a} is really {r} this {b}",
    "reversed": "{r} {b} is {a}",
    "reversed-the": "{r} the {b} is the {a}",
    "reversed-the-first": "{r} {b} is the {a}",
    "reversed-the-second": "{r} the {b} is {a}",
}
# What captions="templates" trains on; the other templates are kept for testing.
TRAINED_TEMPLATES = ("train", "no-is", "the-the", "articles")
# Suites that put other words or other spelling into the training template.
REWRITES = (
    *("color-synonyms", "shape-synonyms", "relation-synonyms", "capitals", "spaces"),
    *("crimson", "navy"),
)
FILLERS = {"is", "the", "a", "an", "there", "really", "this", "that", "one", "just"}
GRAMMAR = (
    "'COLOUR SHAPE is PHRASE COLOUR SHAPE', for example 'red square is above blue circle' "
    f"(colours {', '.join(COLORS)}; shapes {', '.join(SHAPES)}; phrases such as 'above', "
    "'to the left of', 'to the upper right of')"
)

# Why a prompt cannot be read; GRAMMAR follows. The pages of the book say it in the same words.
REFUSALS = {
    "no relation": "no spatial relation in prompt {prompt}",
    "colour out of place": "colour '{word}' out of place in prompt {prompt}",
    "more shapes": "more than two shapes in prompt {prompt}",
    "second relation": "a second relation, '{word}', in prompt {prompt}",
    "unknown word": "unknown word '{word}' in prompt {prompt}",
    "fewer shapes": "prompt {prompt} names {word}, not two",
    "relation last": "the relation comes last in prompt {prompt}",
}


@dataclass(frozen=True)
class Prompt:
    """A parsed prompt. colors, shapes: (first, second), indices; -1 for a colour not named.

    spans: (start, end, role) of every word, by character offset, so roles hold for any tokenizer.
    """

    text: str
    colors: tuple[int, int]
    shapes: tuple[int, int]
    relation: int
    spans: tuple[tuple[int, int, str], ...]


PHRASE_RELATION = {phrase: relation for relation, phrases in PHRASES.items() for phrase in phrases}
PHRASE_RELATION |= {synonym: relation for relation, synonym in RELATION_SYNONYMS.items()}
PHRASE_PATTERN = re.compile(
    r"(?<!\S)("
    + "|".join(
        r"\s+".join(phrase.split()) for phrase in sorted(PHRASE_RELATION, key=len, reverse=True)
    )
    + r")(?!\S)"
)  # (longest first: "above and to the left of" is not "above")


@lru_cache(4096)  # the suites, about 1500 prompts, are read again for every table
def parse(text: str) -> Prompt:
    """Read a prompt into colours, shapes, relation and the role of every word.

    Words, order and articles may vary as in TEMPLATES; capitals and doubled spaces do not matter.
    Raises RelcoreError, naming the word at fault and the grammar, for anything it cannot read.
    """
    lower = text.lower()
    found = PHRASE_PATTERN.search(lower)
    if not found:
        raise _refused("no relation", text)
    relation = PHRASE_RELATION[" ".join(found.group().split())]
    spans, colors, shapes = [], {}, {}  # colors, shapes: mention (0, 1) -> index
    mention = 0
    words = list(re.finditer(r"\S+", lower))
    names = [SYNONYMS.get(word.group(), word.group()) for word in words]
    for word, name, following in zip(words, names, [*names[1:], ""], strict=True):
        if found.start() <= word.start() < found.end():
            role = "relation"
        elif name in COLORS:
            role = "color"
            if mention > 1 or following not in SHAPES:
                raise _refused("colour out of place", text, word.group())
            colors[mention] = COLORS.index(name)
        elif name in SHAPES:
            role = "shape"
            if mention > 1:
                raise _refused("more shapes", text)
            shapes[mention] = SHAPES.index(name)
        elif name in FILLERS:
            role = "filler"
        elif PHRASE_PATTERN.match(lower, word.start()):
            raise _refused("second relation", text, word.group())
        else:
            raise _refused("unknown word", text, word.group())
        spans.append((word.start(), word.end(), role, mention))
        mention += role == "shape"
    if mention < 2:
        raise _refused("fewer shapes", text, f"{mention} shape{'s' * (mention != 1)}")
    first, second = (start for start, _, role, _ in spans if role == "shape")
    if found.start() > second:
        raise _refused("relation last", text)
    # In the reversed templates the phrase comes first, and the first mention is the second object.
    order = (1, 0) if found.start() < first else (0, 1)
    named = tuple(
        (start, end, f"{role}{order[m] + 1}" if role in ("color", "shape") else role)
        for start, end, role, m in spans
    )
    return Prompt(
        text,
        tuple(colors.get(m, -1) for m in order),
        tuple(shapes[m] for m in order),
        RELATIONS.index(relation),
        named,
    )


def _refused(why: str, text: str, word: str = "") -> RelcoreError:
    return RelcoreError(f"{REFUSALS[why].format(prompt=repr(text), word=word)}: write {GRAMMAR}")


def compose(
    colors: tuple[int, int], shapes: tuple[int, int], phrase: str, template: str = "train"
) -> str:
    """The prompt for object 0 standing in `phrase` to object 1; colour -1 leaves the word out."""
    require("template", template, TEMPLATES)
    a, b = (
        f"{COLORS[c]} {SHAPES[s]}" if c >= 0 else SHAPES[s]
        for c, s in zip(colors, shapes, strict=True)
    )
    return TEMPLATES[template].format(a=a, b=b, r=phrase)


def in_form(prompt: str, form: str) -> str:
    """A training prompt in one of the paper's four caption FORMS: with the colour words of a form
    left out.
    """
    require("form", form, FORMS)
    parsed = parse(prompt)
    gone = {f"color{k + 1}" for k in FORMS[form]}
    return " ".join(prompt[start:end] for start, end, role in parsed.spans if role not in gone)


def rewrite(prompt: str, how: str) -> str:
    """A training prompt with the first synonym of every colour or shape, in Title Case, with
    doubled spaces, or with one of the SYNONYMS alone.
    """
    if how == "capitals":
        return prompt.title()
    if how == "spaces":
        return prompt.replace(" ", "  ")
    if how in SYNONYMS:
        return " ".join(how if word == SYNONYMS[how] else word for word in prompt.split())
    names = COLORS if how == "color-synonyms" else SHAPES
    first = {base: synonym for synonym, base in reversed(SYNONYMS.items()) if base in names}
    return " ".join(first.get(word, word) for word in prompt.split())


def suite(phrases: dict[str, tuple[str, ...]] = CANONICAL, template: str = "train") -> list[str]:
    """The closed prompt suite: 2 colour orders x 6 shape pairs x the phrases, in a template or a
    rewrite.

    96 prompts with CANONICAL, 264 with PHRASES (the paper's suites); 48 relation synonyms.
    """
    require("template", template, [*TEMPLATES, *REWRITES])
    if template == "relation-synonyms":
        phrases, template = {r: (synonym,) for r, synonym in RELATION_SYNONYMS.items()}, "train"
    how, template = (template, "train") if template in REWRITES else (None, template)
    prompts = [
        compose(colors, pair, phrase, template)
        for phrase in itertools.chain.from_iterable(phrases.values())
        for colors in ((0, 1), (1, 0))
        for pair in itertools.permutations(range(3), 2)
    ]
    return [rewrite(prompt, how) for prompt in prompts] if how else prompts


# The colour words a form leaves out.
FORMS = {"both": (), "no first": (0,), "no second": (1,), "neither": (0, 1)}
CAPTIONS = ("canonical", "phrases", "paper", "templates")


def caption(
    scenes: Scenes,
    rng: np.random.Generator,
    captions: str = "phrases",
    left_out: float | np.ndarray | None = None,
) -> list[str]:
    """One training caption per scene.

    captions: "canonical" (8 phrases, both colours named), "phrases" (the 22, uniform within the
        relation, both colours named), "paper" (the 22, each colour word left out with p = .5),
        "templates" ("phrases" in one of TRAINED_TEMPLATES each).
    left_out: the probability that a colour word is left out, if not that of `captions`;
        one, or (scenes,) one per caption.
    """
    require("captions", captions, CAPTIONS)
    if left_out is None:
        left_out = 0.5 if captions == "paper" else 0.0
    pool = CANONICAL if captions == "canonical" else PHRASES
    pick = rng.random(len(scenes))
    keep = rng.random((len(scenes), 2)) < 1 - np.reshape(left_out, (-1, 1))
    colors = np.where(keep, scenes.colors, -1)
    templates = np.array(TRAINED_TEMPLATES if captions == "templates" else ("train",))
    templates = templates[rng.integers(len(templates), size=len(scenes))]
    out = []
    for i, relation in enumerate(scenes.relations):
        phrases = pool[RELATIONS[relation]]
        out.append(
            compose(colors[i], scenes.shapes[i], phrases[int(pick[i] * len(phrases))], templates[i])
        )
    return out
