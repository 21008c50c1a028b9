"""The QK of one head: drawn maps are q.k, words are found at their places, planes and synonyms are
told apart.
"""

import pytest
import torch

from relcore.data.encoders import make_encoder
from relcore.errors import RelcoreError
from relcore.kernels.capture import capture
from relcore.kernels.circuits import ramps
from relcore.kernels.geometry import (
    UNSEEN,
    agreement_by_step,
    direction_words,
    merged,
    query_components,
    scores_by_step,
    weight_maps,
    word_cosines,
)
from relcore.kernels.interventions import Batch, Head
from relcore.model.diffusion import sample

HEAD = Head(1, 1)
PROMPT = "red square is below and to the right of blue circle"


def test_drawn_maps_are_the_scores_without_their_scale(tiny):
    encoder = make_encoder("rte")
    maps = scores_by_step(Batch(tiny, encoder, [PROMPT] * 2, [0, 1], {"steps": 3}), HEAD)[1]
    with capture(tiny, ["blocks.1.cross_attn.scores"]) as cache:
        sample(tiny, encoder, [PROMPT] * 2, [0, 1], steps=3)
    assert maps.shape[:2] == (3, 2)
    wanted = cache["blocks.1.cross_attn.scores", 1][:2, 1] * 8  # [picture, image, token]
    words = len(PROMPT.split())
    torch.testing.assert_close(
        maps[1].flatten(-2)[:, :words], wanted.transpose(1, 2)[:, :words], rtol=1e-4, atol=1e-4
    )


def test_words_are_found_at_their_places():
    assert direction_words(PROMPT) == [(3, "below"), (7, "right")]
    assert direction_words("Blue circle over red square") == [(2, "over")]


def test_agreement_is_one_while_queries_are_bare_positions(tiny):
    """With nothing but positions in the stream, the drawn map is the weights' map at every step."""
    for block in tiny.blocks:
        for layer in (block.attn.W_O, block.cross_attn.W_O, block.mlp[2]):
            layer.weight.zero_()
            layer.bias.zero_()
    tiny.patch_embed.weight.zero_()
    tiny.patch_embed.bias.zero_()
    encoder = make_encoder("rte")
    still = weight_maps(tiny, encoder, HEAD, PROMPT)
    assert still.shape == (len(PROMPT.split()) + 1, 8, 8)
    table = agreement_by_step(tiny, encoder, HEAD, [PROMPT], [0], steps=2)
    assert list(table.word) == ["below"] * 2 + ["right"] * 2 and list(table.step) == [0, 1, 0, 1]
    assert table.cosine.min() > 0.999 and table["size"].sub(1).abs().max() < 1e-3


def test_queries_that_are_a_plane_are_all_linear(tiny):
    maps, shares, linear = query_components(tiny, HEAD)
    assert maps.shape == (64, 8, 8) and float(shares.sum()) == pytest.approx(1) and 0 < linear < 1
    axes = ramps()[[0, 2]].flatten(1)  # y and x
    tiny.positions.copy_(axes.T @ torch.randn(2, 128))
    assert query_components(tiny, HEAD)[2] == pytest.approx(1)


def test_cosines_of_words_and_their_groups(tiny):
    tables = word_cosines(tiny, make_encoder("rte"), HEAD)
    assert list(tables) == ["encoded", "after the caption MLP", "keys"]
    encoded = tables["encoded"]
    assert encoded.loc["above", "above"] == pytest.approx(1) and set(UNSEEN) < set(encoded.columns)
    same, other = merged(encoded)
    assert abs(same - other) < 0.1  # random vectors: what they share is the place
    small = word_cosines(tiny, make_encoder("rte"), HEAD, ["above", "up", "left"])["encoded"]
    assert merged(small)[0] == pytest.approx(float(small.loc["above", "up"]))


def test_contextual_encoder_has_no_vector_for_a_word(tiny):
    with pytest.raises(RelcoreError, match="no vector for a single word"):
        word_cosines(tiny, make_encoder("minilm"), HEAD)
