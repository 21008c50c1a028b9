"""Variance partition, effect vectors and probes: planted effects come back, and nothing that was
not planted.
"""

import numpy as np
import pandas as pd
import pytest
import torch

from relcore.data.encoders import make_encoder
from relcore.data.prompts import CANONICAL, PHRASES, ROLES, parse, suite
from relcore.data.scenes import RELATIONS
from relcore.errors import RelcoreError
from relcore.kernels.factors import (
    Rewired,
    effects,
    explained,
    factor_table,
    fusion,
    probe_new_shape,
    relation_effects,
    relation_shares,
    variance_partition,
    word_vectors,
)

PROMPTS = suite(CANONICAL)
TEXT = make_encoder("rte").encode(PROMPTS)
FACTORS = factor_table(PROMPTS, TEXT)
NAMES = ["relation", "object2", "shape1"]


def planted(
    factors: pd.DataFrame, d: int = 12, noise: float = 0.0
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Vectors that are a sum of one known effect a factor, and the effects, which sum to zero over
    the levels.
    """
    generator = torch.Generator().manual_seed(0)
    known, vectors = {}, noise * torch.randn(len(factors), d, generator=generator)
    for name, column in factors.items():
        effect = torch.randn(len(column.cat.categories), d, generator=generator)
        known[name] = effect - effect.mean(0)
        vectors = vectors + known[name][torch.tensor(column.cat.codes.to_numpy(dtype=np.int64))]
    return vectors, known


def test_factors_are_those_of_the_prompt():
    for prompt, row in zip(PROMPTS, FACTORS.itertuples(), strict=True):
        read = parse(prompt)
        assert (row.relation, row.pair) == (RELATIONS[read.relation], read.relation // 2)
        first, _, rest = prompt.partition(" is ")
        assert row.object1 == first and row.object2 == " ".join(rest.split()[-2:])
        assert (row.shape1, row.shape2) == (first.split()[1], rest.split()[-1])
        assert row.phrase == " ".join(rest.split()[:-2]) and row.length == len(rest.split()) - 2


def test_relations_of_a_pair_have_phrases_of_the_same_length():
    assert (FACTORS.groupby("pair", observed=True).length.nunique() == 1).all()


def test_planted_effects_come_back():
    factors = FACTORS[["relation", "object1"]]  # independent of each other in the suite
    vectors, known = planted(factors)
    for name, found in effects(vectors, factors).items():
        torch.testing.assert_close(found, known[name], atol=1e-5, rtol=0)
    assert explained(vectors, factors) == pytest.approx(1)


def test_effects_follow_the_order_of_the_levels_whatever_the_order_of_the_prompts():
    factors = FACTORS[["relation", "object1"]]
    vectors, known = planted(factors)
    order = np.random.default_rng(0).permutation(len(factors))
    found = effects(vectors[torch.from_numpy(order)], factors.iloc[order])
    torch.testing.assert_close(found["relation"], known["relation"], atol=1e-5, rtol=0)


def test_effects_need_every_level():
    without = FACTORS[["relation"]][FACTORS.relation != "above"]
    with pytest.raises(RelcoreError, match="'relation'"):
        effects(torch.zeros(len(without), 3), without)


def test_independent_factors_share_the_variance_out_exactly():
    """In a balanced design marginal and partial R^2 are the same, and add up to the whole."""
    factors = FACTORS[["relation", "object1"]]
    vectors, _ = planted(factors, noise=0.5)
    table = variance_partition(vectors, factors, permutations=19).set_index("factor")
    np.testing.assert_allclose(table.marginal, table.partial)
    assert table.partial[["relation", "object1"]].sum() == pytest.approx(table.partial["all"])
    assert 0 < table.partial["all"] < 1


def test_partition_does_not_depend_on_scale_shift_or_rotation():
    vectors, _ = planted(FACTORS[NAMES], noise=1.0)
    turn = torch.linalg.qr(torch.randn(12, 12, generator=torch.Generator().manual_seed(1)))[0]
    before, after = (
        variance_partition(v, FACTORS[NAMES], 9) for v in (vectors, 7 * vectors @ turn + 3)
    )
    np.testing.assert_allclose(
        before[["marginal", "partial"]], after[["marginal", "partial"]], atol=1e-5
    )


def test_permutations_find_a_planted_factor_and_no_other():
    factors = FACTORS[["relation", "object1"]]
    vectors, _ = planted(FACTORS[["object1"]], noise=1.0)
    p = variance_partition(vectors, factors, permutations=99).set_index("factor").p
    assert p["object1"] == 0.01 and p["relation"] > 0.05


def test_word_vectors_average_the_pieces_of_a_word():
    vectors = word_vectors(TEXT, "relation")
    row = PROMPTS.index("red square is to the left of blue triangle")
    torch.testing.assert_close(vectors[row], TEXT.embeddings[row, 3:7].mean(0))
    with pytest.raises(RelcoreError, match="'color1'"):
        word_vectors(make_encoder("rte").encode(["square is above circle"]), "color1")


def test_the_mlp_reads_every_piece_by_itself():
    mlp = torch.nn.Sequential(torch.nn.Linear(384, 8), torch.nn.GELU())
    with torch.no_grad():
        vectors = word_vectors(TEXT, "relation", mlp)
        row = PROMPTS.index("red square is to the left of blue triangle")
        torch.testing.assert_close(vectors[row], mlp(TEXT.embeddings[row, 3:7]).mean(0))


def test_a_probe_reads_a_code_that_all_shapes_share_and_not_one_that_each_has_of_its_own():
    shared, _ = planted(FACTORS[["relation"]], noise=0.1)
    assert probe_new_shape(shared, FACTORS, "shape2")[::3] == (1.0, len(PROMPTS))
    cell = pd.Categorical(FACTORS.relation.astype(str) + FACTORS.shape2.astype(str))
    own, _ = planted(pd.DataFrame({"cell": cell}), d=32)
    assert probe_new_shape(own, FACTORS, "shape2")[0] < 0.4


@pytest.fixture(scope="module")
def tables() -> dict[str, pd.DataFrame]:
    return {
        name: fusion(make_encoder(name)).set_index(["token", "measure"])
        for name in ("rte", "rte-nopos", "e5")
    }


def test_random_tokens_hold_nothing_of_the_relation_but_their_place(tables):
    for shape in ("shape1", "shape2"):
        for encoder in ("rte", "rte-nopos"):
            assert abs(tables[encoder].value[shape, "relation at equal length"]) < 1e-9
    # Longer phrases push the second object along.
    assert tables["rte"].value["shape2", "relation"] > 0.01
    assert abs(tables["rte-nopos"].value["shape2", "relation"]) < 1e-9


def test_a_contextual_encoder_mixes_the_relation_into_both_shapes(tables):
    for shape in ("shape1", "shape2"):
        assert tables["e5"].value[shape, "relation at equal length"] > 0.01
        assert tables["e5"].p[shape, "relation"] < 0.01
        assert tables["e5"].value[shape, "relation, new shape"] > 0.75


def test_fusion_says_how_many_prompts_it_saw(tables):
    assert set(tables["e5"].n) == {len(suite(PHRASES)), len(PROMPTS)}
    assert tables["e5"].value.between(-1e-9, 1 + 1e-9).all()


def test_the_shares_of_the_relation_are_those_of_fusion(tables):
    for name in ("rte", "e5"):
        shares = relation_shares(make_encoder(name))
        assert list(shares) == ["color1", "shape1", "color2", "shape2"]
        for role, share in shares.items():
            assert share == pytest.approx(tables[name].value[role, "relation"], abs=1e-9)


# --- telling another relation in some words


def test_rewired_words_hold_the_effect_of_the_other_relation_and_no_other_word_moves():
    e5 = make_encoder("e5")
    prompts = [p for p in suite(PHRASES) if parse(p).relation == RELATIONS.index("left")]
    plain, rewired = e5.encode(prompts), Rewired(e5, ["shape2"], lambda p: "above").encode(prompts)
    v = relation_effects(e5, "shape2")
    mine = (plain.roles == ROLES.index("shape2")) & plain.mask
    moved = (rewired.embeddings - plain.embeddings)[mine]
    torch.testing.assert_close(moved, (v[0] - v[2]).expand_as(moved), rtol=1e-4, atol=1e-4)
    assert torch.equal(rewired.embeddings[~mine], plain.embeddings[~mine]) and torch.equal(
        rewired.mask, plain.mask
    )
    # Along the direction that tells the two apart, the rewired words lie where those of "above"
    # lie.
    above = e5.encode(
        [p.replace(PHRASES["left"][0], "above") for p in prompts if PHRASES["left"][0] in p]
    )
    axis = v[0] - v[2]
    along = [word_vectors(text, "shape2") @ axis for text in (plain, rewired, above)]
    low, high, target = (float(a.mean()) for a in along)
    assert abs(high - target) < 0.2 * abs(high - low)


def test_rewiring_to_its_own_relation_or_to_none_changes_nothing():
    e5, prompts = make_encoder("e5"), ["red square is above blue circle", ""]
    plain = e5.encode(prompts)
    for other in (lambda p: "above", lambda p: None):
        rewired = Rewired(e5, ["shape1", "special"], other).encode(prompts)
        torch.testing.assert_close(rewired.embeddings, plain.embeddings)
    far = (
        Rewired(e5, ["shape1"], lambda p: "below", strength=3.0).encode(prompts).embeddings
        - plain.embeddings
    )
    v = relation_effects(e5, "shape1")
    torch.testing.assert_close(
        far.abs().amax((0, 1)), (3 * v[1] - v[0]).abs(), rtol=1e-3, atol=1e-4
    )


def test_random_tokens_of_objects_tell_no_relation_but_by_their_place():
    assert relation_effects(make_encoder("rte"), "shape1").norm() < 1e-3
