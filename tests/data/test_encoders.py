"""Random token embeddings: what may and may not change a token's vector."""

import hashlib

import pytest
import torch

from relcore.data.encoders import ENCODERS, MAX_LENGTH, RandomTokenEncoder, make_encoder
from relcore.data.prompts import PHRASES, ROLES, parse, suite
from relcore.errors import RelcoreError
from relcore.model.recipe import TrainConfig

PROMPT = "red square is to the left of blue circle"


def test_word_vectors_do_not_depend_on_the_order_of_use():
    first, second = RandomTokenEncoder(), RandomTokenEncoder()
    second.encode(list(reversed(suite(PHRASES))))
    words = sorted({word for prompt in suite(PHRASES) for word in prompt.split()})
    assert all(torch.equal(first.word(word), second.word(word)) for word in words)


@pytest.mark.parametrize("name", ENCODERS)
def test_a_token_does_not_depend_on_the_other_words(name):
    """Nothing of the relation leaks into other tokens: only the replaced word's row changes."""
    encoder = make_encoder(name)
    a, b = (
        encoder.encode([f"red square is {word} blue circle"]).embeddings[0]
        for word in ("above", "below")
    )
    assert (a != b).any(1).tolist() == [
        word == "above" for word in (*["red", "square", "is", "above", "blue", "circle"], "</s>")
    ]


def test_words_are_distinct_and_nearly_orthogonal():
    encoder = RandomTokenEncoder()
    words = sorted({word for prompt in suite(PHRASES) for word in prompt.split()})
    vectors = torch.stack([encoder.word(word) for word in words])
    cosine = torch.nn.functional.normalize(vectors) @ torch.nn.functional.normalize(vectors).T
    # Cosines of independent vectors are N(0, 1 / dim): 5 standard deviations, over 253 pairs.
    assert (cosine - torch.eye(len(words))).abs().max() < 5 / encoder.dim**0.5


def test_without_positions_a_prompt_is_a_bag_of_words():
    swap = "blue circle is to the left of red square"
    bags = [
        sorted(map(tuple, make_encoder("rte-nopos").encode([p]).embeddings[0].tolist()))
        for p in (PROMPT, swap)
    ]
    assert bags[0] == bags[1]
    pooled = [make_encoder("rte").encode([p]).embeddings[0, [0, 7]] for p in (PROMPT, swap)]
    assert not torch.allclose(pooled[0], pooled[1].flip(0))


@pytest.mark.parametrize("ratio", [0.0, 0.5**0.5, 1.0])
def test_positions_are_as_long_as_asked_and_tables_as_large(ratio):
    words = torch.stack([RandomTokenEncoder().word(word) for word in PROMPT.split()])
    expected = ratio * words.square().sum(1).mean() ** 0.5
    lengths = RandomTokenEncoder(positions=ratio).positions.norm(dim=1)
    torch.testing.assert_close(lengths, expected.expand(MAX_LENGTH), rtol=0.05, atol=1e-6)
    table = make_encoder("e5", ratio).encode(suite(PHRASES))
    assert table.embeddings[table.mask].square().mean() == pytest.approx(1 + ratio**2, rel=1e-3)


def test_a_smaller_base_sets_neighbours_further_apart_at_the_same_length():
    far, near = (RandomTokenEncoder(base=base).positions for base in (100.0, 10_000.0))
    torch.testing.assert_close(far.norm(dim=1), near.norm(dim=1))
    assert (far.diff(dim=0).norm(dim=1) > 1.3 * near.diff(dim=0).norm(dim=1)).all()
    made = TrainConfig(positions_base=100.0).make_encoder()
    assert torch.equal(made.positions, far)


def test_positions_are_sines_and_cosines():
    encoder = RandomTokenEncoder()
    assert len({tuple(row) for row in encoder.positions.tolist()}) == MAX_LENGTH
    text = encoder.encode(["the red square is above the blue circle"]).embeddings[0]
    # Subtracting two sums of the same vector leaves rounding of fp32 numbers below 6.
    torch.testing.assert_close(
        text[0] - text[5], encoder.positions[0] - encoder.positions[5], atol=1e-6, rtol=0
    )
    torch.testing.assert_close(
        encoder.positions[:, ::2] ** 2 + encoder.positions[:, 1::2] ** 2,
        torch.ones(MAX_LENGTH, encoder.dim // 2),
    )
    place, pair = 3, 10
    assert encoder.positions[place, 2 * pair] == pytest.approx(
        torch.sin(torch.tensor(place * 10000 ** (-2 * pair / encoder.dim))).item(), abs=1e-6
    )


def test_seeds_give_other_vectors():
    assert not torch.equal(
        RandomTokenEncoder(seed=0).word("red"), RandomTokenEncoder(seed=1).word("red")
    )


def test_a_word_never_seen_has_a_vector_of_its_own():
    encoder = RandomTokenEncoder()
    assert not torch.equal(encoder.word("crimson"), encoder.word("red"))
    assert torch.equal(encoder.word("crimson"), RandomTokenEncoder().word("crimson"))
    assert encoder.encode([PROMPT.replace("red", "crimson")]).mask.all()


def test_capitals_have_the_same_vectors():
    encoder = RandomTokenEncoder()
    assert torch.equal(
        encoder.encode([PROMPT.upper()]).embeddings, encoder.encode([PROMPT]).embeddings
    )


@pytest.mark.parametrize("name", ENCODERS)
def test_shapes_mask_and_roles(name):
    encoder, prompts = make_encoder(name), [PROMPT, "", "square is above circle"]
    text = encoder.encode(prompts)
    assert text.embeddings.shape == (3, 10, encoder.dim)
    assert text.mask.sum(1).tolist() == [10, 1, 5]
    assert (text.embeddings[~text.mask] == 0).all()
    names = [[ROLES[r] for r in row] for row in text.roles.tolist()]
    assert names[0] == [role for *_, role in parse(PROMPT).spans] + ["special"]
    assert names[1] == ["special"] * 10
    assert names[2] == ["shape1", "filler", "relation", "shape2"] + ["special"] * 6


@pytest.mark.parametrize("name", ENCODERS)
def test_the_empty_prompt_is_the_end_token_alone(name):
    encoder = make_encoder(name)
    text = encoder.encode([""])
    assert torch.equal(
        text.embeddings, (encoder.word("</s>") + encoder.positions[0])[None, None]
    ) and text.mask.tolist() == [[True]]


def test_a_prompt_that_is_too_long_is_refused():
    longest = "the " * (MAX_LENGTH - 7) + "red square is above blue circle"
    assert RandomTokenEncoder().encode([longest]).mask.shape == (1, MAX_LENGTH)
    with pytest.raises(RelcoreError, match="21 tokens.*takes 20: shorten"):
        RandomTokenEncoder().encode(["the " + longest])


def test_unknown_encoder_is_named():
    with pytest.raises(RelcoreError, match="'word2vec'.*rte-nopos"):
        make_encoder("word2vec")


@pytest.mark.parametrize("name", ENCODERS)
def test_token_embeddings_are_golden(golden, name):
    """fp32 bytes; positions are rounded first, as sines may differ in the last bit between
    machines.
    """
    encoder = make_encoder(name)
    words = torch.stack(
        [encoder.word(w) for w in sorted({w for p in suite(PHRASES) for w in p.split()})]
    )
    golden(f"words {name}", hashlib.sha256(words.numpy().tobytes()).hexdigest())
    text = encoder.encode(suite(PHRASES)[:8]).embeddings
    golden(
        f"tokens {name}", hashlib.sha256((text * 1000).round().int().numpy().tobytes()).hexdigest()
    )
