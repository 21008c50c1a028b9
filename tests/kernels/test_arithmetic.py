"""Vector arithmetic: identity changes nothing, the edit is the formula's, the table says whose
relation is shown.
"""

import pandas as pd
import pytest
import torch
from networks import stirred

from relcore.data.prompts import ROLES, parse, suite
from relcore.data.scenes import RELATIONS
from relcore.errors import RelcoreError
from relcore.kernels.arithmetic import arithmetic, obedience
from relcore.kernels.factors import Rewired, relation_effects
from relcore.model.evaluation import evaluate

PROMPTS = suite()[::12]  # one a relation
STEPS = {"steps": 1, "guidance": 1.0}


def test_all_pairs_are_drawn_and_a_relation_put_in_its_own_place_changes_nothing(encoder):
    model = stirred(0.05)
    table = arithmetic(model, encoder, ["relation"], [1.0], PROMPTS, [0], **STEPS)
    assert len(table.groupby(["relation", "target"])) == 64 and len(table) == 64
    same = table[table.relation == table.target].sort_values("seed")[
        ["prompt", "seed", "color", "dx", "dy"]
    ]
    plain = evaluate(model, encoder, PROMPTS, [0], **STEPS)[same.columns]
    pd.testing.assert_frame_equal(same.reset_index(drop=True), plain)


def test_the_edit_is_the_papers_formula(encoder):
    v, told = (
        relation_effects(encoder, "relation"),
        Rewired(encoder, ["relation"], lambda _: "left", 3.0),
    )
    before, after = encoder.encode(PROMPTS), told.encode(PROMPTS)
    for k, prompt in enumerate(PROMPTS):
        mine = before.roles[k] == ROLES.index("relation")
        change = 3 * v[RELATIONS.index("left")] - v[parse(prompt).relation]
        torch.testing.assert_close(
            after.embeddings[k, mine] - before.embeddings[k, mine],
            change.expand(int(mine.sum()), -1),
            atol=1e-5,
            rtol=1e-5,
        )
        assert torch.equal(after.embeddings[k, ~mine], before.embeddings[k, ~mine])


def test_obedience_leaves_out_what_the_prompt_tells_anyway():
    table = pd.DataFrame(
        {
            "words": "shape2",
            "strength": 1.0,
            "relation": ["above", "above", "left"],
            "target": ["above", "left", "above"],
            "relation_loose": [True, True, False],
            "donor_loose": [True, False, True],
        }
    )
    shown = obedience(table).set_index("shows")
    assert (shown.share["own"], shown.share["target"], shown.n["own"]) == (0.5, 0.5, 2)


def test_an_unknown_word_is_named(encoder):
    with pytest.raises(RelcoreError, match="unknown word 'verb'.*color1"):
        arithmetic(None, encoder, ["shape2", "verb"], [1.0], PROMPTS, [0])
