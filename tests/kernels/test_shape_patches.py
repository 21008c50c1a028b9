"""Shape patches: donors are their own inverse, pictures are scored for both prompts, recolouring
does only that.
"""

import pytest
import torch

from relcore.data.encoders import make_encoder
from relcore.data.prompts import PHRASES, parse, suite
from relcore.kernels.interventions import Head, patch
from relcore.kernels.shape_patches import (
    other_first_shape,
    recoloured,
    scored_twice,
    swapped_shapes,
)
from relcore.model.checkpoints import load_model
from relcore.model.diffusion import sample
from relcore.model.dit import DiT, DiTConfig

RTE = make_encoder("rte")


@pytest.mark.parametrize("donor", [swapped_shapes, other_first_shape])
def test_donors_change_shapes_only_and_are_their_own_inverse(donor):
    for prompt in suite(PHRASES):
        other = donor(prompt)
        before, after = parse(prompt), parse(other)
        assert (
            donor(other) == prompt
            and after.shapes[0] != before.shapes[0]
            and len(set(after.shapes)) == 2
        )
        assert (after.colors, after.relation) == (before.colors, before.relation)
    assert swapped_shapes("red square is above blue circle") == "red circle is above blue square"
    assert (
        other_first_shape("red square is above blue circle") == "red triangle is above blue circle"
    )


def test_pictures_are_scored_for_their_own_prompt_and_the_donors():
    model, prompts = load_model("rte-micro")[0], suite()[:2]
    runs = {"none": None, "nothing": patch([Head(4, 0)], swapped_shapes, strength=0)}
    table, pictures = scored_twice(
        model, RTE, runs, prompts, [0, 1], swapped_shapes, batch=1, steps=12
    )
    assert len(table) == 4 and set(pictures) == set(runs)
    # A patch of no strength changes nothing.
    assert torch.equal(pictures["none"], pictures["nothing"])
    assert torch.equal(pictures["none"], sample(model, RTE, prompts, [0, 1], steps=12))
    plain = table[table.intervention == "none"]
    assert plain.own_binding.all() and not plain.donor_binding.any() and plain.donor_shape.all()


@pytest.mark.parametrize("sampler", ["euler", "dpm"])
@pytest.mark.parametrize("step", [1, 3])
def test_recolouring_exchanges_red_and_blue_once(sampler, step):
    """Up to the step nothing differs; there the noisy picture is that of the other run with its
    channels exchanged.
    """
    torch.manual_seed(0)
    model = DiT(DiTConfig(depth=1, width=64)).eval().requires_grad_(False)
    torch.nn.init.xavier_uniform_(model.unembed.weight)
    seen = []
    handle = model.register_forward_pre_hook(lambda _, args: seen.append(args[0][:1].clone()))
    options = {"sampler": sampler, "steps": 5, "guided_until": 0}
    sample(model, RTE, suite()[:1], [0], **options)
    plain, seen[:] = list(seen), []
    recoloured(step)(model, RTE, suite()[:1], [0], **options)
    handle.remove()
    for k in range(step):
        assert torch.equal(seen[k], plain[k])
    torch.testing.assert_close(seen[step], plain[step].flip(1))
    # The network sees other colours from here on.
    assert not torch.allclose(seen[step + 1], plain[step + 1].flip(1))
