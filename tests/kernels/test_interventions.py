"""Interventions: what must change nothing changes nothing; what is taken away is gone; tables say
what was run.
"""

import itertools
import re

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from relcore.data.prompts import ROLES, in_form, parse, suite
from relcore.data.scenes import RELATIONS
from relcore.errors import RelcoreError
from relcore.kernels import interventions as module
from relcore.kernels.capture import capture
from relcore.kernels.interventions import (
    OPPOSITE,
    Batch,
    Head,
    ablate,
    chance,
    drawn_with,
    find_head,
    heads_of,
    mask_tokens,
    most_needed,
    obeys,
    opposite,
    outcomes,
    patch,
    reference,
    reference_for,
    smallest_set,
    sweep,
    with_relation,
)
from relcore.model.diffusion import sample

# Phrases of different lengths, so that batches have padding.
PROMPTS = [
    "red square is above blue circle",
    "blue triangle is diagonally up and left from red square",
]
SEEDS = [3, 4]
STEPS = {"steps": 3}  # two guided steps, and one after guidance has stopped
CLOSE = {"rtol": 1e-4, "atol": 1e-4}


def outputs(model, encoder, intervention=None, prompts=PROMPTS, seeds=SEEDS):
    """The network's output before rounding to pixels: what every block wrote last, by step."""
    batch = Batch(model, encoder, prompts, seeds, STEPS)
    edits = intervention(batch) if intervention else None
    cache = batch.draw(["blocks.1.resid_post"], edits)[1]
    return [value for _, value in sorted(cache.items())]


def same(a, b, **tolerance):
    for x, y in zip(a, b, strict=True):
        torch.testing.assert_close(x, y, **(tolerance or {"rtol": 0, "atol": 0}))


def differ(a, b):
    return any(not torch.allclose(x, y, **CLOSE) for x, y in zip(a, b, strict=True))


def test_ablating_no_head_and_masking_no_word_change_no_bit(model, encoder):
    plain = outputs(model, encoder)
    same(outputs(model, encoder, ablate([])), plain)
    same(outputs(model, encoder, mask_tokens([])), plain)
    same(outputs(model, encoder, mask_tokens(["relation"], steps=[])), plain)
    same(outputs(model, encoder, mask_tokens(["relation"], heads=[])), plain)


def test_zeroing_all_cross_attention_heads_is_removing_cross_attention(model, encoder):
    def removed(batch):
        bias = [block.cross_attn.W_O.bias for block in model.blocks]
        return {
            f"blocks.{i}.cross_attn_out": lambda out, step, i=i: bias[i].expand_as(out)
            for i in range(2)
        }

    zeroed = outputs(model, encoder, ablate(heads_of(model, ["cross_attn"])))
    same(zeroed, outputs(model, encoder, removed), **CLOSE)
    # No text.
    same(
        zeroed,
        outputs(model, encoder, ablate(heads_of(model, ["cross_attn"])), PROMPTS[::-1]),
        **CLOSE,
    )
    assert differ(zeroed, outputs(model, encoder))


@pytest.mark.parametrize("kind", ["cross_attn", "attn"])
def test_zeroing_one_head_takes_its_result_out_of_the_layers_output(model, encoder, kind):
    head, names = Head(1, 0, kind), [f"blocks.1.{kind}.result", f"blocks.1.{kind}_out"]
    batch = Batch(model, encoder, PROMPTS, SEEDS, STEPS)
    _, plain = batch.draw(names)
    _, ablated = batch.draw(names, ablate([head])(batch))
    rest = plain[names[1], 0] - plain[names[0], 0][:, 0]
    torch.testing.assert_close(ablated[names[1], 0], rest, **CLOSE)


@pytest.mark.parametrize("mean", [True, False])
def test_a_picture_replaced_by_itself_stays(model, encoder, mean):
    heads = heads_of(model)
    # evaluate's rule for the noise of seed 3 with one prompt: seed 3
    own = reference(model, encoder, PROMPTS[:1], [3], heads, mean=mean, **STEPS)
    plain = outputs(model, encoder, prompts=PROMPTS[:1], seeds=[3])
    same(outputs(model, encoder, ablate(heads, own), PROMPTS[:1], [3]), plain, **CLOSE)


def test_the_mean_reference_is_the_mean_of_the_pictures(model, encoder):
    heads = [Head(0, 1), Head(1, 0, "attn")]
    mean = reference(model, encoder, PROMPTS, range(2), heads, batch=3, **STEPS)
    every = reference(model, encoder, PROMPTS, range(2), heads, batch=3, mean=False, **STEPS)
    assert set(mean) == set(every) == {(f"{h.name}.z", step) for h in heads for step in range(3)}
    for key, value in every.items():
        assert value.shape[:2] == (1 if key[1] == 2 else 2, 4)  # branches, pictures
        torch.testing.assert_close(mean[key], value.mean(1, keepdim=True), **CLOSE)


def test_ablation_of_a_picture_does_not_depend_on_its_batch(model, encoder):
    pool = reference(model, encoder, PROMPTS, range(3), heads_of(model), mean=False, **STEPS)
    prompts, seeds = PROMPTS * 3, list(range(6))
    draw = drawn_with(ablate(heads_of(model), pool, seed=1))
    together = draw(model, encoder, prompts, seeds, **STEPS).int()
    alone = torch.cat(
        [draw(model, encoder, [p], [s], **STEPS) for p, s in zip(prompts, seeds, strict=True)]
    ).int()
    assert (together - alone).abs().max() <= 1  # rounding at the pixel


def test_the_reference_may_be_of_other_prompts(model, encoder):
    """Where captions name no colour, another caption's output must name none either."""
    heads, texts = [Head(0, 1)], [in_form(p, "neither") for p in PROMPTS]
    pool = reference_for(model, encoder, heads, "resample", prompts=texts, **STEPS)
    wanted = reference(model, encoder, texts, [1000], heads, mean=False, **STEPS)
    assert all(torch.equal(pool[key], value) for key, value in wanted.items())


def test_ablated_heads_are_those_named(model, encoder):
    pool = reference(model, encoder, PROMPTS, [9], heads_of(model), mean=False, **STEPS)
    batch = Batch(model, encoder, PROMPTS, SEEDS, STEPS)
    edit = ablate([Head(1, 1)], pool)(batch)
    assert list(edit) == ["blocks.1.cross_attn.z"]
    z = torch.randn(4, 2, 64, 64)
    changed = edit["blocks.1.cross_attn.z"](z, 0)
    assert torch.equal(changed[:, 0], z[:, 0])
    donors = pool["blocks.1.cross_attn.z", 0]  # [branch, picture, head, image, d_head]
    for branch, picture in itertools.product(range(2), range(2)):
        row = changed[2 * branch + picture, 1]
        assert any(torch.equal(row, donors[branch, k, 1]) for k in range(2))


def test_a_reference_without_the_head_is_refused(model, encoder):
    pool = reference(model, encoder, PROMPTS, [9], [Head(0, 0)], **STEPS)
    with pytest.raises(RelcoreError, match="blocks.1.cross_attn.z"):
        ablate([Head(0, 0), Head(1, 1)], pool)(Batch(model, encoder, PROMPTS, SEEDS))


def test_masking_words_equals_a_text_that_hides_them(model, encoder):
    class Hiding:
        def encode(self, prompts):
            text = encoder.encode(prompts)
            text.mask &= (text.roles != ROLES.index("relation")) | (
                text.roles == ROLES.index("special")
            )
            return text

    same(outputs(model, encoder, mask_tokens(["relation"])), outputs(model, Hiding()), **CLOSE)
    assert differ(outputs(model, encoder, mask_tokens(["relation"])), outputs(model, encoder))


def test_masks_act_on_the_conditional_half_at_their_steps_and_heads(model, encoder):
    batch, hidden = Batch(model, encoder, PROMPTS, SEEDS, STEPS), ROLES.index("shape2")
    edits = mask_tokens(["shape2"], steps=[1], heads=[Head(0, 1)])(batch)
    _, cache = batch.draw(["*.cross_attn.pattern"], edits)
    text = encoder.encode(PROMPTS)
    columns = (text.roles == hidden)[:, None, None]
    for (name, step), pattern in cache.items():
        for head in range(2):
            mine = pattern[:2, head : head + 1][columns.expand(-1, -1, 64, -1)]
            assert (mine == 0).all() == (name.startswith("blocks.0") and step == 1 and head == 1)
        torch.testing.assert_close(pattern.sum(-1), torch.ones(pattern.shape[:-1]), **CLOSE)


def test_masking_every_token_or_an_unknown_role_is_refused(model, encoder):
    with pytest.raises(RelcoreError, match="unknown role 'verb'"):
        mask_tokens(["verb"])
    with pytest.raises(RelcoreError, match="without a token"):
        mask_tokens(ROLES)(Batch(model, encoder, PROMPTS, SEEDS))


def test_patching_a_run_into_itself_changes_nothing(model, encoder):
    heads = heads_of(model)
    plain = outputs(model, encoder)
    same(outputs(model, encoder, patch(heads, donor=lambda prompt: prompt)), plain, **CLOSE)
    same(outputs(model, encoder, patch(heads, strength=0.0)), plain, **CLOSE)
    same(outputs(model, encoder, patch(heads, steps=[])), plain, **CLOSE)
    assert differ(outputs(model, encoder, patch(heads)), plain)


def test_a_patched_head_writes_the_donors_result(model, encoder):
    batch, name = Batch(model, encoder, PROMPTS, SEEDS, STEPS), "blocks.0.cross_attn.result"
    others = [opposite(prompt) for prompt in PROMPTS]
    _, donor = batch.draw([name], prompts=others)
    _, plain = batch.draw([name])
    _, cache = batch.draw([name], patch([Head(0, 1)])(batch))
    # First step: same input.
    torch.testing.assert_close(cache[name, 0][:2, 1], donor[name, 0][:2, 1], **CLOSE)
    # Unconditional half.
    torch.testing.assert_close(cache[name, 0][2:], plain[name, 0][2:], **CLOSE)
    torch.testing.assert_close(cache[name, 0][:2, 0], plain[name, 0][:2, 0], **CLOSE)


def test_patching_along_all_directions_is_patching_whole_and_along_one_moves_only_that(
    model, encoder
):
    whole = outputs(model, encoder, patch([Head(0, 1)]))
    basis = torch.linalg.qr(torch.randn(128, 128, generator=torch.Generator().manual_seed(0)))[0]
    same(outputs(model, encoder, patch([Head(0, 1)], directions=basis)), whole, **CLOSE)
    batch, name = Batch(model, encoder, PROMPTS, SEEDS, STEPS), "blocks.0.cross_attn.result"
    _, plain = batch.draw([name])
    _, cache = batch.draw([name], patch([Head(0, 1)], directions=basis[:1], strength=2.0)(batch))
    moved = (cache[name, 0] - plain[name, 0])[:2, 1]
    torch.testing.assert_close(moved, moved @ basis[:1].T @ basis[:1], **CLOSE)
    assert moved.norm() > 0.01


@pytest.mark.parametrize("prompt", suite()[::7])
def test_the_opposite_relation_is_an_involution_with_the_same_objects(prompt):
    there, back = parse(opposite(prompt)), parse(opposite(opposite(prompt)))
    assert (
        (there.colors, there.shapes)
        == (back.colors, back.shapes)
        == (parse(prompt).colors, parse(prompt).shapes)
    )
    assert RELATIONS[there.relation] == OPPOSITE[RELATIONS[parse(prompt).relation]]
    assert back.relation == parse(prompt).relation
    assert parse(with_relation(prompt, "left")).relation == RELATIONS.index("left")


def test_heads_by_name(model):
    assert find_head(model, "L1H0") == Head(1, 0) and str(Head(1, 0)) == "L1H0"
    assert str(find_head(model, "L0H1", "attn")) == "self L0H1"
    assert len(heads_of(model)) == 8
    for wrong in ("L2H0", "L0H2", "1.0", "l1h0", "L-1H0"):
        with pytest.raises(RelcoreError, match=r"L0H0 to L1H1"):
            find_head(model, wrong)


def test_a_sweep_is_resumed_and_refuses_other_settings(model, encoder, tmp_path, monkeypatch):
    file = tmp_path / "sweep.parquet"
    two = {"none": None, "no relation": mask_tokens(["relation"])}
    three = {**two, "L0H0": ablate([Head(0, 0)])}
    whole = sweep(model, encoder, three, PROMPTS, [0, 1], **STEPS)
    sweep(model, encoder, two, PROMPTS, [0, 1], file, {"checkpoint": "a"}, **STEPS)
    ran = []
    real = module.evaluate
    monkeypatch.setattr(module, "evaluate", lambda *a, **kw: ran.append(1) or real(*a, **kw))
    resumed = sweep(model, encoder, three, PROMPTS, [0, 1], file, {"checkpoint": "a"}, **STEPS)
    assert len(ran) == 1
    pd.testing.assert_frame_equal(resumed, whole)
    assert set(
        sweep(model, encoder, two, PROMPTS, [0, 1], file, {"checkpoint": "a"}, **STEPS).intervention
    ) == set(two)
    for change in ({"checkpoint": "b"}, {"checkpoint": "a", "method": "zero"}):
        with pytest.raises(RelcoreError, match="another (checkpoint|method)"):
            sweep(model, encoder, three, PROMPTS, [0, 1], file, change, **STEPS)
    with pytest.raises(RelcoreError, match="another seeds"):
        sweep(model, encoder, three, PROMPTS, [0], file, {"checkpoint": "a"}, **STEPS)


def rows(hits, **columns):
    table = pd.DataFrame(
        {"relation_loose": hits, "prompt": PROMPTS[0], "seed": range(len(hits)), **columns}
    )
    return table.assign(**{m: True for m in ("color", "shape", "binding", "relation_strict")})


def test_outcomes_are_paired_with_the_baseline():
    plain, cut = rows([1, 1, 1, 0], intervention="none"), rows([0, 1, 0, 0], intervention="cut")
    table = outcomes(pd.concat([plain, cut.iloc[::-1]])).set_index(["intervention", "metric"])
    loose = table.loc[("cut", "relation_loose")]
    assert (loose.value, loose.change, loose.n) == (0.25, -0.5, 4)
    assert loose.change_high - loose.change == pytest.approx(
        1.96 * np.std([-1, 0, -1, 0], ddof=1) / 2
    )
    assert (table.loc["none"][["change", "change_low", "change_high"]] == 0).all(axis=None)
    with pytest.raises(RelcoreError, match="no intervention 'none'"):
        outcomes(cut)


def test_chance_shuffles_relations_and_donors_are_judged_by_places():
    relations = ["left", "right"] * 50
    prompts = [f"red square is to the {relation} of blue circle" for relation in relations]
    dx = np.where(np.array(relations) == "left", -30, 30)
    places = pd.DataFrame(
        {"dx": dx, "dy": 0.0, "binding": True, "relation": relations, "prompt": prompts}
    )
    mean, low, high = chance(places)
    assert low <= 0.5 <= high and mean == pytest.approx(0.5, abs=0.02)
    assert chance(places.assign(binding=False))[0] == 0
    assert not obeys(places).donor_loose.any()
    assert obeys(places.assign(dx=-places.dx)).donor_loose.all()
    assert not obeys(places.assign(dx=-places.dx, binding=False)).donor_loose.any()


def test_capture_is_closed_after_a_failing_intervention(model, encoder):
    def broken(batch):
        return {"blocks.0.cross_attn.z": lambda z, step: 1 / 0}

    with pytest.raises(ZeroDivisionError):
        drawn_with(broken)(model, encoder, PROMPTS, SEEDS, **STEPS)
    with capture(model, ["blocks.0.resid_pre"]):
        assert sample(model, encoder, PROMPTS, SEEDS, **STEPS).shape == (2, 64, 64, 3)


# --- few heads


@given(st.sets(st.integers(0, 3), min_size=1), st.permutations(range(4)))
def test_the_smallest_set_is_the_needed_one_whatever_the_ranking(needed, ranking):
    heads = [Head(0, k) for k in range(4)]
    found = smallest_set(
        [heads[k] for k in ranking], lambda only: float(needed <= {h.head for h in only}), 1.0
    )
    assert {h.head for h in found} == needed


def test_of_heads_that_stand_in_for_each_other_one_is_kept():
    a, b, c = (Head(0, k) for k in range(3))
    accuracy = lambda only: float(a in only and (b in only or c in only))  # noqa: E731
    assert smallest_set([a, b, c], accuracy, 1.0) == [a, b]


def test_heads_are_ranked_by_what_is_lost_without_them(tiny):
    heads = heads_of(tiny, ["cross_attn"])
    loss = [-0.1, 0.0, -0.7, -0.3]
    rows = [
        {"intervention": str(h), "metric": "relation_loose", "change": c}
        for h, c in zip(heads, loss, strict=True)
    ]
    ranked = most_needed(tiny, pd.DataFrame(rows))
    assert ranked == [heads[k] for k in (2, 3, 0, 1)]
    with pytest.raises(RelcoreError, match=re.escape(str(heads[3]))):
        most_needed(tiny, pd.DataFrame(rows[:3]))
