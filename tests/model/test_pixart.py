"""A diffusers PixArt under relcore's names: the same numbers, and the kernels run on it.

The transformers are small and untrained; one has the shape of a released PixArt (latents, learned
variance, heads that are not 64 wide), the other draws relcore's pictures.
"""

import numpy as np
import pytest
import torch

from relcore.data.encoders import make_encoder
from relcore.errors import RelcoreError
from relcore.kernels.capture import activation_names, capture
from relcore.kernels.circuits import ov, ramps, screen, write_directions
from relcore.kernels.synopsis import role_attention
from relcore.model.diffusion import IDDPM, sample
from relcore.model.pixart import PixArt

diffusers = pytest.importorskip("diffusers", reason="pip install 'relcore[peers]'")

PROMPTS = ["red square is above blue circle", "blue triangle is to the lower left of red square"]
CLOSE = {"rtol": 1e-4, "atol": 1e-5}
PIXELS = {
    "attention_head_dim": 64,
    "in_channels": 3,
    "out_channels": 3,
    "sample_size": 64,
    "patch_size": 8,
    "cross_attention_dim": 128,
}
LATENTS = {
    "attention_head_dim": 24,
    "in_channels": 4,
    "out_channels": 8,
    "sample_size": 16,
    "patch_size": 2,
    "cross_attention_dim": 48,
}


def transformer(seed: int = 0, **shape):
    """Random biases too: diffusers makes some of them zero, and one that is forgotten should
    show.
    """
    torch.manual_seed(seed)
    model = diffusers.PixArtTransformer2DModel(
        num_attention_heads=2, num_layers=2, caption_channels=384, **{**PIXELS, **shape}
    )
    for name, p in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(p, std=0.2)
    return model.eval().requires_grad_(False)


def arguments(model, conditions: bool = False) -> dict:
    """Random pictures and times, and two prompts of different lengths."""
    text, c = make_encoder("rte").encode(PROMPTS), model.config
    picture = torch.randn(
        2, c.in_channels, c.sample_size, c.sample_size, generator=torch.Generator().manual_seed(0)
    )
    size = {"resolution": torch.tensor([[128.0, 128.0]] * 2), "aspect_ratio": torch.ones(2, 1)}
    return {
        "hidden_states": picture,
        "encoder_hidden_states": text.embeddings,
        "encoder_attention_mask": text.mask,
        "timestep": torch.tensor([999, 30]),
        "added_cond_kwargs": size if conditions else None,
        "return_dict": False,
    }


class Lora(torch.nn.Module):
    """As peft's layer: around a projection, whose weight and bias it gives as its own."""

    def __init__(self, base: torch.nn.Linear):
        super().__init__()
        self.base_layer, self.in_features = base, base.in_features
        self.down = torch.nn.Linear(base.in_features, 4, bias=False)
        self.up = torch.nn.Linear(4, base.out_features, bias=False)
        self.dropout = torch.nn.Dropout(0.5)

    weight = property(lambda self: self.base_layer.weight)
    bias = property(lambda self: self.base_layer.bias)

    def forward(self, x):
        return self.base_layer(x) + self.up(self.down(self.dropout(x)))


def adapted(peer, merged: bool = False):
    """LoRA on every kind of layer that pipelines put it on; merged: into the weights."""
    torch.manual_seed(1)
    for block in peer.transformer_blocks:
        both = (block.attn1, block.attn2)
        ends = [(a, name) for a in both for name in ("to_q", "to_k", "to_v")]
        ends += [*((a.to_out, "0") for a in both), (block.ff.net[0], "proj"), (block.ff.net, "2")]
        for owner, name in ends:
            lora = Lora(getattr(owner, name)).eval().requires_grad_(False)
            if merged:
                lora.base_layer.weight += lora.up.weight @ lora.down.weight
            else:
                setattr(owner, name, lora)
    return peer


@pytest.mark.parametrize("first", ["the adapter", "the watching"])
def test_low_rank_adapters_are_computed_recorded_and_screened(first):
    """Against diffusers on merged weights."""
    merged = adapted(transformer(**LATENTS), merged=True)
    given = arguments(merged)
    (expected,) = merged(**given)
    peer = transformer(**LATENTS)
    assert (peer(**given)[0] - expected).abs().max() > 0.1
    if first == "the adapter":
        model = PixArt(adapted(peer))
    else:
        model = PixArt(peer)
        adapted(peer)
    twin = PixArt(merged)
    torch.testing.assert_close(peer(**given)[0], expected, **CLOSE)
    with capture(model, ["*"]) as cache, capture(twin, ["*"]) as theirs:
        torch.testing.assert_close(peer(**given)[0], expected, **CLOSE)
        merged(**given)
    for key, value in theirs.items():
        torch.testing.assert_close(cache[key], value, **CLOSE)
    with capture(model, edits={"*.result": lambda value, step: value}):
        torch.testing.assert_close(peer(**given)[0], expected, **CLOSE)
    tables = [screen(m, make_encoder("rte"), "words", draws=20) for m in (model, twin)]
    np.testing.assert_allclose(tables[0].cosine, tables[1].cosine, atol=1e-4)
    vectors = torch.randn(3, 48, generator=torch.Generator().manual_seed(0))
    for kernel, what in ((write_directions, (vectors,)), (ov, (1, 0))):
        torch.testing.assert_close(kernel(model, *what), kernel(twin, *what), **CLOSE)


def test_what_has_no_weight_to_read_is_said():
    """A random dropout makes the layer's output no function of its input."""
    peer = adapted(transformer(**LATENTS))
    model, given = PixArt(peer), arguments(peer)
    peer.transformer_blocks[0].attn2.to_out[0].train()
    unreadable = pytest.raises(RelcoreError, match="class Lora.*eval mode")
    with capture(model, ["blocks.0.cross_attn.result"]), unreadable:
        peer(**given)


def test_weights_put_in_later_are_used():
    peer, other = transformer(**LATENTS), transformer(1, **LATENTS)
    PixArt(peer)
    peer.load_state_dict(other.state_dict(), assign=True)
    given = arguments(peer)
    torch.testing.assert_close(peer(**given)[0], other(**given)[0], **CLOSE)


@pytest.mark.parametrize("kind", ["one prompt hidden", "added to the scores"])
def test_masks_are_those_of_diffusers(kind):
    """Hidden means -10000, so of a prompt that is hidden as a whole every token is attended to."""
    peer = transformer(**LATENTS)
    given = arguments(peer)
    mask = given["encoder_attention_mask"]
    given["encoder_attention_mask"] = (
        mask & torch.tensor([[True], [False]])
        if kind == "one prompt hidden"
        else torch.randn(mask.shape, generator=torch.Generator().manual_seed(0))[:, None]
    )
    (before,) = peer(**given)
    model = PixArt(peer)
    with capture(model, ["*.pattern"]) as cache:
        (after,) = peer(**given)
    # fp32 keeps three digits after the point of a score that -10000 was added to.
    torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(after[0], before[0], **CLOSE)
    assert all(value.isfinite().all() for value in cache.values())


@pytest.mark.parametrize("shape", [PIXELS, LATENTS, {**LATENTS, "use_additional_conditions": True}])
def test_the_transformer_computes_what_it_did(shape):
    peer = transformer(**shape)
    given = arguments(peer, conditions="use_additional_conditions" in shape)
    (before,) = peer(**given)
    model = PixArt(peer)
    torch.testing.assert_close(peer(**given)[0], before, **CLOSE)
    with capture(model, activation_names(model)) as cache:
        torch.testing.assert_close(peer(**given)[0], before, **CLOSE)
    assert {name for name, _ in cache} == set(activation_names(model))


@pytest.mark.parametrize("shape", [PIXELS, LATENTS])
def test_activations_are_those_of_diffusers(shape):
    """Against hooks on diffusers' own modules, set before they are watched."""
    peer, seen = transformer(**shape), {}
    block = peer.transformer_blocks[1]
    hooks = [
        block.attn2.register_forward_hook(lambda _, __, out: seen.update(cross_attn_out=out)),
        block.attn1.register_forward_hook(lambda _, __, out: seen.update(attn_out=out)),
        block.ff.register_forward_hook(lambda _, __, out: seen.update(mlp_out=out)),
        block.attn2.to_q.register_forward_hook(lambda _, __, out: seen.update(q=out)),
        block.register_forward_hook(lambda _, x, out: seen.update(resid_pre=x[0], resid_post=out)),
    ]
    given = arguments(peer)
    peer(**given)
    for hook in hooks:
        hook.remove()
    model = PixArt(peer)
    with capture(model, ["blocks.1.*"]) as cache:
        peer(**given)
    for name in ("resid_pre", "attn_out", "cross_attn_out", "mlp_out", "resid_post"):
        torch.testing.assert_close(cache[f"blocks.1.{name}", 0], seen[name], **CLOSE)
    q = cache["blocks.1.cross_attn.q", 0]
    torch.testing.assert_close(q.transpose(1, 2).flatten(2), seen["q"], **CLOSE)
    pattern, mask = cache["blocks.1.cross_attn.pattern", 0], given["encoder_attention_mask"]
    torch.testing.assert_close(pattern.sum(-1), torch.ones_like(pattern[..., 0]))
    assert pattern[0, ..., ~mask[0]].abs().max() == 0
    total = cache["blocks.1.cross_attn.result", 0].sum(1) + block.attn2.to_out[0].bias
    torch.testing.assert_close(total, seen["cross_attn_out"], **CLOSE)


def test_an_edit_changes_the_transformers_output_and_leaves_with_the_capture():
    peer = transformer(**LATENTS)
    model, given = PixArt(peer), arguments(peer)
    (before,) = peer(**given)
    with capture(model, edits={"blocks.*.cross_attn.z": lambda value, step: 0 * value}):
        assert (peer(**given)[0] - before).abs().max() > 0.01
    assert torch.equal(peer(**given)[0], before)


def test_screening_is_q_k_by_hand():
    peer = transformer(**LATENTS)
    model, encoder = PixArt(peer), make_encoder("rte")
    table = screen(model, encoder, "words", draws=20)
    assert set(zip(table["layer"], table["head"], strict=True)) == {(0, 0), (0, 1), (1, 0), (1, 1)}
    vectors = (encoder.word("right") + encoder.positions[2])[None]
    attention = peer.transformer_blocks[1].attn2
    k = attention.to_k(peer.caption_projection(vectors))[0, 24:]  # head 1
    scores = attention.to_q(peer.pos_embed.pos_embed[0])[:, 24:] @ k  # [image]
    cosine = np.corrcoef(scores.numpy(), ramps(8)[3].flatten().numpy())[0, 1]
    row = table.query("layer == 1 and head == 1 and vector == 'right'")
    assert row.cosine.item() == pytest.approx(cosine, abs=1e-4)
    assert write_directions(model, peer.caption_projection(vectors)).shape == (2, 2, 1, 48)


def test_relcore_draws_with_a_transformer_of_its_pictures():
    peer, encoder = transformer(), make_encoder("rte")
    expected = sample(PixArt(peer), encoder, PROMPTS, [0, 1], process=IDDPM(), steps=3)
    pictures, (attention,), passes = role_attention(
        PixArt(transformer()), encoder, PROMPTS, [0, 1], mean=True, process=IDDPM(), steps=3
    )
    assert torch.equal(pictures, expected) and passes == 3
    torch.testing.assert_close(attention.sum(-1), torch.ones_like(attention[..., 0]))


def test_time_runs_the_other_way():
    """relcore's t = 0 is noise, diffusers' last timestep; the noise it predicts is the
    transformer's.
    """
    peer, text = transformer(), make_encoder("rte").encode(PROMPTS)
    model, given = PixArt(peer), arguments(peer)
    noise = model(given["hidden_states"], torch.tensor([0.0, 1 - 31 / 1000]), text)
    torch.testing.assert_close(noise, peer(**given)[0])


def test_a_pipeline_is_captured():
    """diffusers' own sampling: the unconditional half comes first there."""
    peer = transformer(**LATENTS)
    model = PixArt(peer)
    text = make_encoder("rte").encode([PROMPTS[0]])
    given = {
        "prompt_embeds": text.embeddings,
        "prompt_attention_mask": text.mask,
        "negative_prompt_embeds": -text.embeddings,
        "negative_prompt_attention_mask": text.mask,
    }
    pipeline = diffusers.PixArtSigmaPipeline(
        None, None, None, peer, diffusers.DPMSolverMultistepScheduler()
    )
    pipeline.set_progress_bar_config(disable=True)
    with capture(model, ["blocks.0.cross_attn.pattern"]) as cache:
        pipeline(
            None,
            None,
            **given,
            num_inference_steps=3,
            height=128,
            width=128,
            output_type="latent",
            use_resolution_binning=False,
        )
    assert [step for _, step in cache] == [0, 1, 2]
    assert cache["blocks.0.cross_attn.pattern", 2].shape == (2, 2, 64, text.mask.shape[1])


def test_what_cannot_be_watched_is_refused():
    peer = transformer()
    PixArt(peer)
    with pytest.raises(RelcoreError, match="watched already"):
        PixArt(peer)
    normalised = transformer()
    normalised.transformer_blocks[0].attn2.norm_q = torch.nn.LayerNorm(64)
    with pytest.raises(RelcoreError, match="normalised queries"):
        PixArt(normalised)
    fused = transformer()
    fused.fuse_qkv_projections()
    with pytest.raises(RelcoreError, match="FusedAttnProcessor2_0"):
        PixArt(fused)
    with pytest.raises(RelcoreError, match="no cross-attention"):
        PixArt(transformer(cross_attention_dim=None))
    with pytest.raises(RelcoreError, match="norms with weights"):
        PixArt(transformer(norm_elementwise_affine=True))
    with pytest.raises(RelcoreError, match="the class Linear"):
        PixArt(torch.nn.Linear(1, 1))
    later = transformer(**LATENTS)
    PixArt(later)
    later.fuse_qkv_projections()
    with pytest.raises(RelcoreError, match="FusedAttnProcessor2_0"):
        later(**arguments(later))
    with pytest.raises(RelcoreError, match="4 channels"):
        sample(PixArt(transformer(**LATENTS)), make_encoder("rte"), PROMPTS[:1], [0])
