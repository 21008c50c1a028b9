"""Prompts: phrases, templates, parsing, captions."""

import hashlib
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relcore.data.prompts import (
    CANONICAL,
    CAPTIONS,
    FORMS,
    PHRASES,
    RELATION_SYNONYMS,
    REWRITES,
    ROLES,
    SYNONYMS,
    TEMPLATES,
    TRAINED_TEMPLATES,
    caption,
    compose,
    in_form,
    parse,
    suite,
)
from relcore.data.scenes import COLORS, RELATIONS, SHAPES, sample_scenes
from relcore.errors import RelcoreError

# paper_facts 3: the 26 pieces less padding, end token, "the" of object 2, and the split of
# "diagonally".
VOCABULARY = {
    "is",
    "to",
    "the",
    "of",
    "and",
    "from",
    "up",
    "down",
    "than",
    "left",
    "right",
    "above",
    "below",
    "upper",
    "lower",
    "higher",
    "directly",
    "diagonally",
    "red",
    "blue",
    "square",
    "circle",
    "triangle",
}
PAIRS = list(itertools.product(((0, 1), (1, 0)), itertools.permutations(range(3), 2)))
STANDARD_ERRORS = 4


def test_suites_have_the_papers_sizes():
    assert sum(map(len, PHRASES.values())) == 22 and list(PHRASES) == list(RELATIONS)
    assert len(set(suite(CANONICAL))) == 96 and len(set(suite(PHRASES))) == 264


def test_vocabulary_is_the_papers():
    assert {word for prompt in suite(PHRASES) for word in prompt.split()} == VOCABULARY


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("relation", RELATIONS)
def test_every_prompt_parses_back(template, relation):
    for phrase, (colors, shapes) in itertools.product(PHRASES[relation], PAIRS):
        prompt = parse(compose(colors, shapes, phrase, template))
        assert (prompt.colors, prompt.shapes, RELATIONS[prompt.relation]) == (
            colors,
            shapes,
            relation,
        )


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("colors", [(-1, 1), (1, -1), (-1, -1)])
def test_a_dropped_colour_parses_as_unnamed(template, colors):
    for phrase in itertools.chain.from_iterable(PHRASES.values()):
        prompt = parse(compose(colors, (2, 0), phrase, template))
        assert prompt.colors == colors and prompt.shapes == (2, 0)


@pytest.mark.parametrize("template", TEMPLATES)
def test_spans_slice_every_word_and_name_its_role(template):
    for text in suite(PHRASES, template):
        prompt = parse(text)
        assert [text[start:end] for start, end, _ in prompt.spans] == text.split()
        words = {role: [text[s:e] for s, e, r in prompt.spans if r == role] for role in ROLES}
        for k in (0, 1):
            assert words[f"color{k + 1}"] == [COLORS[prompt.colors[k]]]
            assert words[f"shape{k + 1}"] == [SHAPES[prompt.shapes[k]]]
        assert " ".join(words["relation"]) in PHRASES[RELATIONS[prompt.relation]]
        assert words["special"] == []


def test_capitals_and_doubled_spaces_do_not_matter():
    text = "  Red  Square is ABOVE  and to   the LEFT of blue   Circle "
    prompt, plain = parse(text), parse("red square is above and to the left of blue circle")
    assert (prompt.colors, prompt.shapes, prompt.relation) == (
        plain.colors,
        plain.shapes,
        plain.relation,
    )
    assert [text[s:e] for s, e, _ in prompt.spans] == text.split()
    assert [role for *_, role in prompt.spans] == [role for *_, role in plain.spans]


@pytest.mark.parametrize("word, meaning", SYNONYMS.items())
def test_synonyms_read_as_what_they_mean(word, meaning):
    plain = (
        "red square is above blue circle"
        if meaning in ("red", "blue", "square")
        else "red triangle is above blue circle"
    )
    plain = plain if meaning in plain else "red square is above blue circle"
    prompt, same = parse(plain.replace(meaning, word)), parse(plain)
    assert (prompt.colors, prompt.shapes, prompt.relation) == (
        same.colors,
        same.shapes,
        same.relation,
    )


@pytest.mark.parametrize("relation, phrase", RELATION_SYNONYMS.items())
def test_relation_synonyms_read_as_the_relation(relation, phrase):
    assert RELATIONS[parse(f"red square is {phrase} blue circle").relation] == relation


@pytest.mark.parametrize(
    "text, named",
    [
        ("purple square is above blue circle", "purple"),
        ("red square is above blue hexagon", "hexagon"),
        ("red square is overhead blue circle", "relation"),
        ("red square and blue circle", "relation"),
        ("red square is above-blue circle", "relation"),
        ("red square is above, blue circle", "relation"),
        ("", "relation"),
        ("red square is above", "1 shape"),
        ("red square is above blue", "blue"),
        ("above", "0 shapes"),
        ("red square is above blue circle triangle", "two shapes"),
        ("red square is above blue circle red", "'red'"),
        ("red blue square is above circle", "colour '"),
    ],
)
def test_a_prompt_that_cannot_be_read_is_named_with_the_grammar(text, named):
    with pytest.raises(RelcoreError) as error:
        parse(text)
    message = str(error.value)
    assert (
        named in message
        and f"'{text}'" in message
        and "COLOUR SHAPE is PHRASE COLOUR SHAPE" in message
    )
    assert "\n" not in message


def test_the_misplaced_colour_itself_is_named():
    """A colour after its shape, not the well-placed one that follows."""
    with pytest.raises(RelcoreError, match="colour 'red' out of place"):
        parse("square red is above blue circle")


@pytest.mark.parametrize("how", REWRITES)
def test_a_rewrite_keeps_the_meaning_and_changes_every_prompt(how):
    rewritten = suite(CANONICAL, how)
    parsed = [parse(prompt) for prompt in rewritten]
    before = [
        p
        for p in map(parse, suite())
        if how != "relation-synonyms" or RELATIONS[p.relation] in RELATION_SYNONYMS
    ]
    assert [(p.colors, p.shapes, p.relation) for p in parsed] == [
        (p.colors, p.shapes, p.relation) for p in before
    ]
    assert not set(rewritten) & set(suite(PHRASES))


def test_unknown_template_and_captions_are_named():
    with pytest.raises(RelcoreError, match="'haiku'.*is-the"):
        compose((0, 1), (0, 1), "above", "haiku")
    with pytest.raises(RelcoreError, match="'haiku'.*paper"):
        caption(sample_scenes(1, np.random.default_rng(0)), np.random.default_rng(0), "haiku")


# --- captions


@pytest.mark.parametrize("captions", CAPTIONS)
@pytest.mark.parametrize("generator", ["separated", "paper"])
def test_captions_tell_the_truth(captions, generator):
    rng = np.random.default_rng(0)
    scenes = sample_scenes(1000, rng, generator)
    for i, prompt in enumerate(map(parse, caption(scenes, rng, captions))):
        assert all(c in (-1, true) for c, true in zip(prompt.colors, scenes.colors[i], strict=True))
        assert prompt.shapes == tuple(scenes.shapes[i]) and prompt.relation == scenes.relations[i]


def test_paper_captions_drop_each_colour_half_the_time_independently():
    rng, n = np.random.default_rng(0), 4000
    prompts = [parse(text) for text in caption(sample_scenes(n, rng), rng, "paper")]
    counts = np.bincount(
        [2 * (p.colors[0] >= 0) + (p.colors[1] >= 0) for p in prompts], minlength=4
    )
    assert abs(counts / n - 0.25).max() < STANDARD_ERRORS * np.sqrt(0.25 * 0.75 / n)


def test_templates_of_training_are_spread_evenly_and_leave_others_for_testing():
    rng, n = np.random.default_rng(0), 4000
    texts = caption(sample_scenes(n, rng), rng, "templates")
    suites = {t: set(suite(PHRASES, t)) for t in TEMPLATES}
    counts = {t: sum(text in prompts for text in texts) / n for t, prompts in suites.items()}
    p = 1 / len(TRAINED_TEMPLATES)
    for template, share in counts.items():
        expected = p if template in TRAINED_TEMPLATES else 0
        assert abs(share - expected) <= STANDARD_ERRORS * np.sqrt(p * (1 - p) / n) * (
            expected > 0
        ), template


@given(st.sampled_from(suite(PHRASES)), st.sampled_from(list(FORMS)))
def test_a_form_leaves_out_its_colours_and_nothing_else(prompt, form):
    whole, formed = parse(prompt), parse(in_form(prompt, form))
    assert formed.shapes == whole.shapes and formed.relation == whole.relation
    colors = tuple(-1 if k in FORMS[form] else color for k, color in enumerate(whole.colors))
    assert formed.colors == colors
    words = [prompt[start:end] for start, end, _ in whole.spans]
    assert len(in_form(prompt, form).split()) == len(words) - len(FORMS[form])


@pytest.mark.parametrize("left_out", [0.0, 0.5, 1.0])
def test_colours_are_left_out_as_often_as_asked(left_out):
    rng = np.random.default_rng(0)
    texts = caption(sample_scenes(400, rng), rng, "paper", left_out)
    gone = np.mean([color < 0 for text in texts for color in parse(text).colors])
    assert gone == left_out if left_out in (0, 1) else abs(gone - left_out) < 0.06


def test_each_caption_can_have_its_own_share_of_colours_left_out():
    rng = np.random.default_rng(0)
    bare = rng.random(200) < 0.5
    texts = caption(sample_scenes(200, rng), rng, "paper", bare.astype(float))
    for text, none in zip(texts, bare, strict=True):
        assert [color < 0 for color in parse(text).colors] == [none, none]


@pytest.mark.parametrize("captions, pool", [("canonical", CANONICAL), ("phrases", PHRASES)])
def test_other_captions_name_both_colours_and_spread_over_the_phrases(captions, pool):
    rng, n = np.random.default_rng(0), 8000
    scenes = sample_scenes(n, rng)
    texts = caption(scenes, rng, captions)
    assert all(min(parse(text).colors) >= 0 for text in texts)
    for r, phrases in enumerate(pool.values()):
        mine = [t for t, relation in zip(texts, scenes.relations, strict=True) if relation == r]
        for phrase in phrases:
            share = np.mean([f"is {phrase} {c}" in t for t in mine for c in COLORS]) * 2
            p = 1 / len(phrases)
            assert abs(share - p) <= STANDARD_ERRORS * np.sqrt(p * (1 - p) / len(mine))


@pytest.mark.parametrize("name, phrases", [("96", CANONICAL), ("264", PHRASES)])
def test_prompt_suites_are_golden(golden, name, phrases):
    golden(f"prompts {name}", hashlib.sha256("\n".join(suite(phrases)).encode()).hexdigest())
