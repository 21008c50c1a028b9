"""The network: positions, text, padding, sizes."""

import math
import shutil

import pytest
import torch

from relcore.data.encoders import RandomTokenEncoder, Text
from relcore.errors import RelcoreError
from relcore.kernels.capture import capture
from relcore.model.dit import PRESETS, DiT, DiTConfig, affine, position_table

PROMPTS = [
    "red square is above blue circle",
    "blue circle is diagonally up and left from red triangle",
    "",
]
# Sums of a few hundred fp32 terms, taken in another order.
REORDERED = {"atol": 1e-5, "rtol": 1e-5}


def inputs(n: int, size: int = 64):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(n, 3, size, size, generator=generator), torch.rand(n, generator=generator)


def test_presets_are_the_papers():
    """paper_facts 2: depth x hidden x heads; 64 image tokens."""
    shapes = {name: (c.depth, c.width, c.heads, c.grid) for name, c in PRESETS.items()}
    assert shapes == {
        "nano": (3, 192, 3, 8),
        "micro": (6, 192, 3, 8),
        "mini": (6, 384, 6, 8),
        "S": (12, 384, 6, 8),
        "B": (12, 768, 12, 8),
    }


def test_position_table_matches_its_definition():
    table = position_table(8, 128)
    assert table.shape == (64, 128)
    for y, x, k in ((0, 0, 0), (3, 5, 0), (7, 2, 31), (1, 6, 17)):
        rate = 10000 ** (-k / 32)
        row = table[8 * y + x]
        expected = [math.sin(x * rate), math.cos(x * rate), math.sin(y * rate), math.cos(y * rate)]
        assert row[[k, 32 + k, 64 + k, 96 + k]].tolist() == pytest.approx(expected, abs=1e-6)
    assert len({tuple(row) for row in table.tolist()}) == 64


@pytest.mark.parametrize("size, patch", [(64, 8), (128, 16)])
def test_output_has_the_shape_of_the_picture(size, patch):
    model = DiT(DiTConfig(1, 64, size, patch))
    image, t = inputs(2, size)
    assert model(image, t, RandomTokenEncoder().encode(PROMPTS[:2])).shape == image.shape


def test_untrained_network_says_zero_and_ignores_the_text():
    """PixArt's zero initialisation."""
    model = DiT(DiTConfig(2, 128))
    assert (model(*inputs(3), RandomTokenEncoder().encode(PROMPTS)) == 0).all()
    assert all((block.cross_attn.W_O.weight == 0).all() for block in model.blocks)


def test_patches_go_back_where_they_came_from(tiny):
    """A change in one patch changes that patch's own output the most, on a network without
    mixing.
    """
    for block in tiny.blocks:
        for layer in (block.attn.W_O, block.cross_attn.W_O, block.mlp[2]):
            layer.weight.zero_()
    image, t = inputs(1)
    text = RandomTokenEncoder().encode(PROMPTS[:1])
    changed = image.clone()
    changed[:, :, 16:24, 40:48] += 1
    where = (tiny(changed, t, text) - tiny(image, t, text)).abs().sum((0, 1)) > 0
    assert where[16:24, 40:48].all() and where.sum() == 64


def test_reading_the_text_once_is_the_same(tiny):
    image, t = inputs(3)
    text = RandomTokenEncoder().encode(PROMPTS)
    assert torch.equal(tiny(image, t, tiny.read_text(text)), tiny(image, t, text))


def test_text_state_rows_are_the_rows_of_the_text(tiny):
    image, t = inputs(3)
    text = RandomTokenEncoder().encode(PROMPTS)
    rows = torch.tensor([2, 0])
    torch.testing.assert_close(
        tiny(image[rows], t[rows], tiny.read_text(text)[rows]),
        tiny(image, t, text)[rows],
        **REORDERED,
    )
    torch.testing.assert_close(
        tiny(image[rows], t[rows], text[rows]), tiny(image, t, text)[rows], **REORDERED
    )


def test_text_and_time_matter(tiny):
    image, t = inputs(1)
    out = [tiny(image, t, RandomTokenEncoder().encode([p])) for p in PROMPTS]
    assert not torch.allclose(out[0], out[1], atol=1e-2) and not torch.allclose(
        out[0], out[2], atol=1e-2
    )
    assert not torch.allclose(
        out[0], tiny(image, t / 2, RandomTokenEncoder().encode(PROMPTS[:1])), atol=1e-3
    )


def test_what_stands_in_the_padding_does_not_matter(tiny):
    image, t = inputs(3)
    text = RandomTokenEncoder().encode(PROMPTS)
    garbage = torch.where(text.mask[..., None], text.embeddings, 1000.0)
    assert torch.equal(tiny(image, t, Text(garbage, text.mask, text.roles)), tiny(image, t, text))


def test_length_of_the_padding_does_not_matter(tiny):
    image, t = inputs(3)
    encoder = RandomTokenEncoder()
    together = tiny(image, t, encoder.encode(PROMPTS))
    for i, prompt in enumerate(PROMPTS):
        torch.testing.assert_close(
            tiny(image[[i]], t[[i]], encoder.encode([prompt])), together[[i]], **REORDERED
        )


def test_word_order_is_invisible_without_positions(tiny):
    encoder = RandomTokenEncoder(positions=False)
    image, t = inputs(1)
    a, b = (
        tiny(image, t, encoder.encode([p]))
        for p in ("red square is above blue circle", "blue circle is above red square")
    )
    torch.testing.assert_close(a, b, **REORDERED)


@pytest.mark.parametrize("config", [DiTConfig(width=100), DiTConfig(image_size=60)])
def test_impossible_sizes_are_refused(config):
    with pytest.raises(RelcoreError, match="multiple of"):
        DiT(config)


@pytest.mark.skipif(
    not any(map(shutil.which, ("g++", "clang++", "cl"))), reason="needs a C++ compiler"
)
def test_a_compiled_network_draws_the_same_and_lets_itself_be_edited(tiny):
    """Blocks under a capture run as written, the others compiled; one compilation does for every
    block.
    """
    (image, t), text = inputs(3), RandomTokenEncoder().encode(PROMPTS)
    silenced = {"blocks.1.cross_attn.z": lambda z, step: torch.zeros_like(z)}

    def runs():
        with capture(tiny, ["blocks.1.attn.pattern"], silenced) as cache:
            edited = tiny(image, t, text)
        return tiny(image, t, text), edited, cache["blocks.1.attn.pattern", 0]

    written = runs()
    tiny.compiled()
    compiled = runs()
    assert not torch.equal(written[0], written[1])
    for a, b in zip(written, compiled, strict=True):
        assert torch.allclose(a, b, **REORDERED)


def test_without_a_compiler_compiling_says_what_to_install(tiny, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(RelcoreError, match="install g"):
        tiny.compiled()


def test_a_prompt_without_tokens_is_refused(tiny):
    text = RandomTokenEncoder().encode(PROMPTS)
    text.mask[1] = False
    with pytest.raises(RelcoreError, match="no token of prompt 1 of 3"):
        tiny(*inputs(3), text)


@pytest.mark.parametrize("dtype, digits", [(torch.float32, 2e-7), (torch.bfloat16, 1e-2)])
def test_weight_and_bias_of_a_layer_that_hides_them(dtype, digits):
    """Also under a bias that would drown the weights in its rounding."""
    torch.manual_seed(0)
    inner = torch.nn.Linear(32, 16, dtype=dtype).requires_grad_(False)
    inner.bias.mul_(100)
    hidden = torch.nn.Sequential(inner)
    hidden.in_features = 32
    weight, bias = affine(hidden, inner.weight)
    assert torch.equal(bias, inner.bias) and weight.dtype == dtype
    atol = digits * float(inner.weight.abs().max())
    torch.testing.assert_close(weight, inner.weight, rtol=0, atol=atol)
    hidden.append(torch.nn.GELU())
    with pytest.raises(RelcoreError, match="class Sequential.*not linear"):
        affine(hidden, inner.weight)
