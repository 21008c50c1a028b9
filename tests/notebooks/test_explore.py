"""Explorable figures: what is handed to the page is what the kernels compute."""

import base64
import dataclasses
import io
import re
import zlib

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from IPython.core.formatters import DisplayFormatter
from PIL import Image

import relcore as rc
from relcore.data.encoders import make_encoder
from relcore.data.prompts import PHRASES, ROLES, caption, parse, suite
from relcore.data.scenes import CANVAS, RELATIONS, render, sample_scenes
from relcore.data.scoring import bound_pair, detect, relation_loose
from relcore.errors import RelcoreError
from relcore.kernels import circuits
from relcore.kernels.composition import relation_heads
from relcore.kernels.factors import Rewired, relation_shares
from relcore.kernels.interventions import opposite, patch
from relcore.kernels.synopsis import IMAGE_ROLES, image_roles, reductions
from relcore.kernels.tags import tag_map
from relcore.view import explore
from relcore.view.explore import fig6_circuits
from relcore.view.explore.base import packed, verdict, words_of
from relcore.view.explore.fig3a_synopsis import _striking
from relcore.view.explore.fig7_arithmetic import _edits, _outcome

PROMPT = "red circle is above blue triangle"


def unpacked(part):
    """What the page makes of a packed array."""
    levels = np.frombuffer(zlib.decompress(part["bytes"]), f"<u{part['bits'] // 8}")
    top = 2 ** part["bits"] - 2
    values = part["low"] + levels / top * (part["high"] - part["low"])
    return np.where(levels > top, np.nan, values).reshape(part["shape"])


def pixels(url):
    """A picture of the page, int [y, x, rgb]."""
    png = base64.b64decode(url.split(",")[1])
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


@given(
    arrays(np.float64, array_shapes(max_dims=4), elements=st.floats(-3, 5) | st.just(np.nan)),
    st.sampled_from((8, 16)),
)
def test_packed_numbers_are_right_to_half_a_step(values, bits):
    told = unpacked(packed(values, -2, 4, bits))
    np.testing.assert_allclose(told, values.clip(-2, 4), atol=3 / (2**bits - 2) + 1e-12)


ENCODERS = {name: make_encoder(name) for name in ("rte", "e5")}


@given(st.sampled_from(suite(PHRASES)), st.sampled_from(sorted(ENCODERS)))
def test_every_token_belongs_to_one_word_of_its_role(prompt, name):
    text, found = ENCODERS[name].encode([prompt]), words_of(ENCODERS[name], prompt)
    tokens = [(token, role) for _, role, own in found for token in own]
    assert tokens == [(k, ROLES[r]) for k, r in enumerate(text.roles[0][text.mask[0]].tolist())]
    assert " ".join(word for word, role, _ in found if role != "special") == prompt
    words = {prompt[start:end]: role for start, end, role in parse(prompt).spans}
    assert all(words[word] == role for word, role, _ in found if word in words)


@pytest.fixture(scope="module")
def model():
    return rc.load("rte-micro")


@pytest.fixture(scope="module")
def table(model):
    data = model.network, model.encoder, [PROMPT], [0]
    return reductions(*data, **model.how())


@pytest.fixture(scope="module")
def synopsis(model, table):
    return explore.synopsis([model], [table], PROMPT, seed=0)


def test_synopsis_hands_over_the_table(synopsis, table):
    [told] = synopsis.data["networks"]
    steps, (mean, *_) = unpacked(told["steps"]), unpacked(told["mean"])
    for reduction, values in (("steps", steps), ("mean", mean[:, :, None])):
        rows = table[table.reduction == reduction]
        index = rows.layer, rows["head"], rows.step.clip(0)
        place = rows.image_role.map(IMAGE_ROLES.index), rows.text_role.map(ROLES.index)
        np.testing.assert_allclose(values[*index, *place], rows.mass, atol=1e-4)
    assert told["n"] == 1


def test_the_map_averages_to_the_synopsis_of_its_picture(synopsis, table):
    """What the page computes in (2) is what the kernel computes."""
    [told] = synopsis.data["networks"]
    maps, shares = unpacked(told["maps"]), unpacked(told["shares"])
    np.testing.assert_allclose(maps.sum(-1), 1, atol=0.03)
    average = np.einsum("pi,lhsiw->lhspw", shares / shares.sum(1, keepdims=True), maps)
    roles = np.array([ROLES.index(role) for _, role in told["words"]])
    ours = np.stack([average[..., roles == k].sum(-1) for k in range(len(ROLES))], -1)
    assert np.abs(ours - unpacked(told["steps"])).max() < 0.03  # bf16, and 8 bits a number


def masses(largest):
    """Attention [layer, head, image role, text role] of which one head gives a kind of word most:
    {(layer, head, place, role): mass}.
    """
    means = np.full((2, 3, len(IMAGE_ROLES), len(ROLES)), 0.01)
    for (*place, role), mass in largest.items():
        means[*place, ROLES.index(role)] = mass
    return means


@given(st.floats(0.02, 1), st.floats(0.02, 1))
def test_no_network_starts_with_an_empty_grid(relation, color):
    means = masses({(1, 2, 1, "relation"): relation, (0, 1, 0, "color2"): color})
    *place, role, note = _striking(means)
    if relation >= 0.25:
        assert (place, ROLES[role], note) == ([1, 2, 1], "relation", "")
    else:
        assert (place, ROLES[role]) == ([0, 1, 0], "color2")
        assert "No head" in note and f"{relation:.2f} (L1H2)" in note


def test_synopsis_says_which_picture_has_no_kinds(model, table):
    with pytest.raises(RelcoreError, match="seed 0.*another seed or prompt"):
        # One step from noise: nothing is drawn.
        blurred = rc.face.Model("blurred", model.network, model.encoder, model.process, {})
        object.__setattr__(blurred, "draw", lambda *a, **k: model.draw(*a, **k, steps=1))
        explore.synopsis([blurred], [table], PROMPT)


def test_screening_hands_over_scores_nulls_and_maps(model):
    figure = explore.screening([model], draws=50)
    [part] = figure.data["networks"][0]["tokens"]
    table = circuits.screen(model.network, model.encoder, "relation", draws=50)
    cosines = unpacked(part["cosines"])
    np.testing.assert_allclose(cosines.ravel(), table.cosine, atol=1e-4)
    bounds = table[["null_low", "null_high"]].dropna().to_numpy()
    np.testing.assert_allclose(unpacked(part["nulls"]).reshape(-1, 2), bounds, atol=1e-4)
    ramps, maps = unpacked(figure.data["ramps"]), unpacked(part["maps"])
    ours = np.einsum("lhri,ri->lhr", maps, ramps)
    ours /= np.linalg.norm(maps, axis=-1) * np.linalg.norm(ramps, axis=-1)
    large = np.abs(maps).max(-1) > 0.3  # else 8 bits are few
    assert large.sum() > 20 and np.abs(ours - cosines[..., :-1])[large].max() < 0.02
    head = tuple(figure.chosen["head0"])
    assert abs(cosines[(*head, -1)]) == np.abs(cosines[..., -1]).max()
    assert figure.chosen["sign"] == np.sign(cosines[(*head, -1)])


def test_screening_reads_the_words_of_a_contextual_encoder():
    figure = explore.screening([rc.load("e5-micro")], draws=20)
    read = [part["token"] for part in figure.data["networks"][0]["tokens"]]
    assert read == ["color1", "shape1", "color2", "shape2"]


def test_network_tells_its_own_shapes_and_pictures(model):
    figure = explore.network([model], PROMPT, lit=["cross_attention"])
    [told] = figure.data["networks"]
    config = model.network.config
    assert (told["depth"], told["heads"], told["width"]) == (
        config.depth,
        config.heads,
        config.width,
    )
    assert told["parameters"] == sum(p.numel() for p in model.network.parameters())
    strip = pixels(told["clean"])
    assert strip.shape == (64, 64 * told["passes"], 3)
    with model.capture(["blocks.*.cross_attn.pattern"]) as cache:
        last = model.draw(PROMPT, 0)[0].astype(int)
    assert np.abs(strip[:, -64:] - last).mean() < 8  # 32 colours
    layer, head = told["shown"]
    maps = [cache[f"blocks.{layer}.cross_attn.pattern", k][0, head] for k in range(told["passes"])]
    np.testing.assert_allclose(unpacked(told["pattern"]), torch.stack(maps).float(), atol=0.01)
    above = PROMPT.split().index("above")  # one token a word, and the end
    most = {key: p[0, :, :, above].mean(-1) for key, p in cache.items()}
    looks = [sum(v for (name, _), v in most.items() if f".{k}." in name) for k in range(6)]
    assert (layer, head) == np.unravel_index(torch.stack(looks).argmax(), (6, 3))
    with pytest.raises(RelcoreError, match="part"):
        explore.network([model], lit=["flux capacitor"])


def test_an_output_holds_widget_sentence_and_picture(synopsis):
    data, told = DisplayFormatter().format(synopsis)
    assert data["application/vnd.jupyter.widget-view+json"]["model_id"] == synopsis.model_id
    assert data["text/plain"] == synopsis.alt and synopsis.alt.endswith(".")
    assert told["image/png"] == {"alt": synopsis.alt, "class": "first-frame"}
    picture = Image.open(io.BytesIO(base64.b64decode(data["image/png"])))
    assert picture.width > 300 and len(data["image/png"]) < 100_000


def test_the_kernel_answers_the_page(synopsis, monkeypatch, tmp_path):
    sent = []
    monkeypatch.setattr(synopsis, "send", sent.append)
    monkeypatch.setattr(explore.base, "D3", tmp_path / "d3.min.js")
    (tmp_path / "d3.min.js").write_text("code")
    for question in ({"hello": True}, {"d3": True}):
        synopsis._answer(question)
    assert sent == [{"answer": {}}, {"d3": "code"}]


def test_the_kernel_draws_a_prompt_of_the_readers_own(model, table):
    figure = explore.synopsis([model], [table], PROMPT)
    before = figure.data
    for prompt, seed, error in (("a cat", "0", "no spatial relation"), (PROMPT, "x", "seed 'x'")):
        assert re.search(error, figure.answer({"prompt": prompt, "seed": seed})["error"])
        assert figure.data is before
    own = "blue square is below red circle"
    assert figure.answer({"prompt": f" {own} ", "seed": "1"}) == {}
    assert figure.data["prompt"] == own
    assert figure.data == explore.synopsis([model], [table], own, 1).data


def test_figures_do_not_touch_the_network(model, table):
    before = {k: v.clone() for k, v in model.network.state_dict().items()}
    explore.synopsis([model], [table], PROMPT)
    explore.screening([model], draws=5)
    assert model.network.tap is None
    after = model.network.state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before)


def test_arithmetic_hands_over_the_pictures_and_where_their_objects_are(model):
    """Drawn together or one by one, the pictures are the same."""
    strengths = [0, 1, 2]
    figure = explore.arithmetic([model], [PROMPT], ["relation"], strengths)
    [told] = figure.data["networks"][0]["prompts"]
    places, there = unpacked(told["places"])[0], unpacked(told["there"])
    own, other = RELATIONS.index("above"), RELATIONS.index("below")
    assert told["told"] == own
    np.testing.assert_array_equal(places[1, own], there)
    [found] = [bound_pair(detect(picture), parse(PROMPT)) for picture in model.draw(PROMPT, 0)]
    ours = [v / CANVAS for one in found for v in (one.x, one.y)]
    np.testing.assert_allclose(there, ours, atol=0.01)
    assert not np.allclose(places[1, other], there, atol=0.05, equal_nan=True)
    shown = pixels(told["pictures"]).reshape(len(strengths), 64, 8, 64, 3).swapaxes(1, 2)
    assert (shown[0] == shown[0, 0]).all(), "nothing is put in, and the pictures differ"
    for k, strength in enumerate(strengths):
        rewired = Rewired(model.encoder, ["relation"], lambda _: "below", strength)
        [alone] = dataclasses.replace(model, encoder=rewired).draw(PROMPT, 0)
        assert np.abs(shown[k, other] - alone).mean() < 8  # 32 colours


@given(
    st.lists(st.floats(0, 1) | st.just(np.nan), min_size=8, max_size=8),
    *[st.integers(0, 7)] * 2,
    st.sampled_from((0, 1, 3)),
)
def test_a_picture_follows_only_where_the_unedited_one_does_not(both, target, own, strength):
    now, before = np.reshape(both, (2, 4))
    shows = [relation_loose(*((at[:2] - at[2:]) * CANVAS), target) for at in (now, before)]
    outcome = _outcome(now, before, target, own, strength)
    compared = target != own and strength and np.isfinite(both).all()
    assert (outcome == "follows") == bool(compared and shows == [True, False])
    same = _outcome(before, before, target, own, strength)
    assert same in {"own", "none", "missing", "unmoved", "so before"}
    assert (outcome == "own") == (target == own)


@given(
    st.lists(st.sampled_from(ROLES[:5]), unique=True, min_size=1),
    st.lists(st.sampled_from((0, 1, 2, 3)), unique=True, min_size=1),
    st.integers(0, 7),
)
def test_every_edit_has_its_picture_and_none_is_drawn_twice(words, strengths, own):
    edits = _edits(words, strengths, own)
    places = sorted(place for own in edits.values() for place in own)
    assert places == list(np.ndindex(len(words), len(strengths), 8))
    different = [sum((1 if not s else 7 if s == 1 else 8) for s in strengths)] * len(words)
    assert len(edits) == 1 + sum(different)


@pytest.fixture(scope="module")
def circuit(model):
    """Of a prompt and its opposite, from the same noise."""
    return explore.circuits([model], [PROMPT, opposite(PROMPT)], seed=1)


def test_a_circuit_hands_over_what_the_kernels_compute(circuit, model):
    [told] = circuit.data["networks"]
    heads = relation_heads(model.network, model.encoder)
    assert [tuple(head) for head in told["heads"]] == [head[:2] for head in heads][:3]
    prompts, names = [PROMPT, opposite(PROMPT)], ["blocks.*.cross_attn.pattern"]
    with model.capture([*names, *(f"{head.name}.z" for head in heads)]) as cache:
        pictures = model.draw(prompts, 1)
    steps = range(1 + max(step for _, step in cache))
    shares = [image_roles(p, parse(t)) for p, t in zip(pictures, prompts, strict=True)]
    patched = model.draw(prompts, 1, intervention=patch(heads))
    for k, part in enumerate(told["parts"]):
        assert part["prompt"] == prompts[k] and part["opposite"] in prompts[1 - k]
        for h, head in enumerate(heads):
            pattern = [cache[f"{head.name}.pattern", s][k, head.head].float() for s in steps]
            maps = unpacked(part["maps"])[h].swapaxes(1, 2)  # [step, image, word]
            np.testing.assert_allclose(maps, torch.stack(pattern), atol=0.01)
            z = torch.stack([cache[f"{head.name}.z", s][[k, 1 - k], head.head] for s in steps], 1)
            at = torch.from_numpy(shares[1 - k][:2] / shares[1 - k][:2].sum(1, keepdims=True))
            tag = tag_map(model.network, head, *z, at)
            np.testing.assert_allclose(
                part["peak"] * unpacked(part["tags"])[h], tag.float(), atol=0.02 * part["peak"]
            )
        np.testing.assert_allclose(unpacked(part["shares"]), shares[k], atol=0.01)
        own = unpacked(part["shares"])[:2]
        for number, found in enumerate(part["objects"]):
            assert tuple(found["head"]) not in [head[:2] for head in heads]
            assert found["head"][0] > min(head.layer for head in heads)
            mean = unpacked(part["looks"])[number].mean(0) @ own.T / own.sum(1)
            np.testing.assert_allclose(mean, found["looks"][:: 1 - 2 * number], atol=0.02)
        assert [tuple(p) for p in part["proof"]][::2] == [
            verdict(picture, prompts[k]) for picture in (pictures[k], patched[k])
        ]
        shown = pixels(part["pictures"])
        assert np.abs(shown[:, :64] - pictures[k]).mean() < 8  # 32 colours
        assert np.abs(shown[:, 128:] - patched[k]).mean() < 8


@pytest.mark.filterwarnings("error")
def test_a_head_that_writes_the_same_everywhere_has_an_empty_map(model, monkeypatch):
    monkeypatch.setattr(fig6_circuits, "tag_map", lambda *given: torch.zeros(len(given[2]), 64))
    [part] = explore.circuits([model], [PROMPT], 1).data["networks"][0]["parts"]
    assert part["peak"] == 0
    np.testing.assert_allclose(unpacked(part["tags"]), 0, atol=0.01)


def test_the_tag_of_the_opposite_prompt_is_the_mirror(circuit):
    """Positive where its own object 1 will be, and so the other's object 2."""
    one, other = circuit.data["networks"][0]["parts"]
    maps = [unpacked(part["tags"])[part["loud"]] for part in (one, other)]
    assert np.corrcoef(*(values.ravel() for values in maps))[0, 1] < -0.3
    for part, values in zip((one, other), maps, strict=True):
        first, second, _ = unpacked(part["shares"])
        assert values.mean(0) @ first / first.sum() > values.mean(0) @ second / second.sum()


def test_a_contextual_circuit_reads_the_relation_in_the_objects_words():
    model = rc.load("e5-micro")
    figure = explore.circuits([model], [PROMPT])
    [told] = figure.data["networks"]
    with torch.no_grad():
        shares = relation_shares(model.encoder, model.network.caption_mlp)
    assert told["contextual"] and told["fusion"] == shares
    [part] = told["parts"]
    assert 1 <= len(told["heads"]) <= 3
    for head, read in zip(unpacked(part["maps"]), part["reads"], strict=True):
        own = unpacked(part["shares"])[:2]
        looks = (head.mean(0) @ own.T / own.sum(1)).mean(-1)  # [word]
        spoken = [w for w, (_, role) in enumerate(part["words"]) if role in ROLES[:5]]
        best = max(spoken, key=lambda w: looks[w])
        assert read == best if looks[best] > 0.06 else read in (None, best)
    assert figure.chosen["head0"] == np.abs(unpacked(part["tags"])).max((1, 2)).argmax()


def test_a_prompt_of_the_readers_own_comes_first(model):
    figure = explore.circuits([model], [PROMPT], seed=1)
    before, own = figure.data["networks"][0]["parts"], "blue square is below red circle"
    assert "no spatial relation" in figure.answer({"prompt": "a cat", "seed": "0"})["error"]
    assert figure.data["networks"][0]["parts"] is before
    figure.chosen = figure.chosen | {"prompt": 3}
    assert figure.answer({"prompt": own, "seed": "0"}) == {}
    assert [part["prompt"] for part in figure.data["networks"][0]["parts"]] == [own, PROMPT]
    assert figure.chosen["prompt"] == 0 and figure.data["prompt"] == own
    # The same heads at the same means: the circuit is the network's, not the prompt's.
    heads = figure.data["networks"][0]["heads"]
    assert heads == explore.circuits([model], [own], seed=0).data["networks"][0]["heads"]


def test_a_circuit_says_which_prompt_is_not_drawn(model):
    blurred = rc.face.Model("blurred", model.network, model.encoder, model.process, {})
    object.__setattr__(blurred, "draw", lambda *a, **k: model.draw(*a, **{**k, "steps": 1}))
    with pytest.raises(RelcoreError, match=f"blurred.*{PROMPT}.*seeds 2 to 6: take another"):
        explore.circuits([blurred], [PROMPT], seed=2)
    with pytest.raises(RelcoreError, match="no spatial relation"):
        explore.circuits([model], [PROMPT, "a cat"])


@given(st.integers(0, 2**31), st.integers(0, 7))
def test_a_verdict_names_what_is_there_and_which_relation_it_is(seed, relation):
    scene = sample_scenes(1, np.random.default_rng(seed), relations=np.array([relation]))
    [picture] = render(scene)
    [prompt] = caption(scene, np.random.default_rng(0), "canonical")
    assert verdict(picture, prompt) == (prompt, 1)
    assert verdict(picture, opposite(prompt)) == (prompt, -1)
    assert verdict(np.full_like(picture, 128), prompt) == ("no object", 0)
