"""The relation head's experiments: parts do what they are called, in every caption form."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch

from experiments import tags as tags_module
from experiments.object_head import half, object_head
from experiments.relation_head import relation_head
from experiments.shared import request
from experiments.tags import TAGS, foretold, tags
from experiments.words import words
from relcore.data.prompts import FORMS, in_form, parse, suite
from relcore.data.scenes import COLORS
from relcore.kernels.composition import relation_heads
from relcore.kernels.geometry import UNSEEN
from relcore.kernels.interventions import Head, heads_of
from relcore.kernels.tags import OBJECTS, Tokens


def test_half_of_the_prompts_is_balanced():
    parsed = [parse(prompt) for prompt in half()]
    for key in (lambda p: p.relation, lambda p: p.colors, lambda p: p.shapes):
        assert len(pd.Series(map(key, parsed)).value_counts().unique()) == 1


def test_every_change_is_made_in_every_form_and_guidance(model, monkeypatch):
    """Only the pictures' number is small: two prompts, three steps."""
    from relcore.model import diffusion

    monkeypatch.setattr(
        diffusion.RectifiedFlow, "sampling_times", lambda *_: torch.linspace(0, 1, 4)
    )
    parts = dict(relation_head.parts(model, suite()[:2], [0]))
    heads = relation_heads(model.network, model.encoder)
    beside = len(heads_of(model.network, ["cross_attn"])) / 2 - len(heads)
    assert len(parts) == 4 * 2 * (5 if beside else 4)
    table = pd.concat([parts[name]() for name in parts if name.startswith("neither")])
    assert set(table.form) == {"neither"} and set(table.guidance) == {4.0, 1.0}
    assert set(table.prompt) == {in_form(p, "neither") for p in suite()[:2]}
    assert set(table[table["heads"] == "relation"].intervention) == {"resample", "mean", "patch"}
    assert set(table[table["heads"] == "relation"].names) == {" ".join(map(str, heads))}
    noise = table.groupby(["intervention", "heads", "guidance"]).seed.apply(list)
    assert all(seeds == [0, 1] for seeds in noise)


def test_a_layer_without_other_heads_has_no_such_part(model, monkeypatch):
    monkeypatch.setattr(
        "experiments.relation_head.relation_heads", lambda *_: [Head(0, 0), Head(0, 1)]
    )
    assert not [
        name for name, _ in relation_head.parts(model, suite()[:2], [0]) if "others" in name
    ]


def planted(common, signed):
    """Tokens of the four forms: object 1 holds common on axis 0, and signed on 1 by its colour."""
    rows, values, rng = [], [], np.random.default_rng(0)
    for form in FORMS:
        for prompt in suite():
            color = parse(prompt).colors[0]
            for role in OBJECTS:
                vector = 0.1 * rng.normal(size=4)
                vector[:2] += (role == OBJECTS[0]) * np.array([common, signed * (1 - 2 * color)])
                rows.append((in_form(prompt, form), COLORS[color], role))
                values.append(vector)
    table = pd.DataFrame(rows, columns=["prompt", "color1", "role"])
    values = torch.tensor(np.array(values), dtype=torch.float32).expand(18, -1, -1)
    return Tokens(table.assign(prompt=request(table.prompt)), {"L0H0": values})


@pytest.mark.parametrize(("common", "signed", "auc"), [(2, 0, 1), (0, 2, 0.5)])
def test_a_tag_of_all_prompts_is_told_from_one_of_a_colour(common, signed, auc, monkeypatch):
    monkeypatch.setattr(tags_module, "STEPS", (0,))
    held = planted(common, signed)
    table = foretold(lambda form: held, "both", [Head(0, 0)]).set_index("tag")
    one, per_colour = (table.value[kind] for kind in TAGS)
    assert one == pytest.approx(auc, abs=0.2) and per_colour > 0.99
    assert (table.n == len(held.table)).all()


def test_the_tags_of_all_forms_are_those_of_each_together(model, shown):
    """What one form's part drew is not drawn again, and a request's captions stand together."""
    drawn = []
    real = tags_module.collect

    def collect(*arguments, **options):
        drawn.append(arguments[2])
        return real(*arguments, **options, steps=9)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tags_module, "collect", collect)
        patch.setattr(tags_module, "STEPS", (0,))
        patch.setattr(tags_module, "prediction", partial(tags_module.prediction, draws=2))
        parts = dict(tags.parts(model, suite()[:3], [0]))
        apart = [parts[f"{form}, tag"]() for form in FORMS]
        together = parts["all, tag"]()
    assert len(drawn) == 4 and together.n.iloc[0] == sum(part.n.iloc[0] for part in apart)


def test_words_are_paired_once(model):
    table = pd.concat([part() for _, part in words.parts(model)])
    strongest = relation_heads(model.network, model.encoder)[0]
    assert set(table[table["rank"] == 1]["head"]) == {str(strongest)}
    keys = table[(table.stage == "keys") & (table["rank"] == 1)]
    assert len(keys) == 13 * 12 / 2 and not keys.duplicated(["first", "second"]).any()
    assert keys.set_index(["first", "second"]).same["above", "higher"]
    assert not set(keys[keys.trained]["first"]) & {*UNSEEN}


def test_object_heads_are_asked_about_pictures_with_noise_of_their_own(model, shown, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "experiments.object_head.states", lambda *arguments, **_: seen.append(arguments[2:])
    )
    monkeypatch.setattr("experiments.object_head.followed", lambda model, kept, form, _: kept(form))
    for form, part in object_head.parts(model, half()[:3], [0, 1]):
        if form != "all":
            part()
    noise = [k for _, seeds in seen for k in seeds]
    assert len(noise) == len(set(noise)) == 4 * 2 * 3
    assert [texts[0] for texts, _ in seen] == [in_form(half()[0], form) for form in FORMS]
