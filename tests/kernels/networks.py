"""Tiny networks for the tests of the kernels: what training would make matter is random, so that it
matters.
"""

import torch

from relcore.model.dit import DiT, DiTConfig


def stirred(scale: float, attention: float | None = None) -> DiT:
    """Noise on every parameter, the zero-initialised outputs too, or the text would not matter.

    attention: the noise of W_Q and W_K, if larger: attention is then far from uniform.
    """
    torch.manual_seed(0)
    model = DiT(DiTConfig(depth=2, width=128)).eval().requires_grad_(False)
    for name, p in model.named_parameters():
        p.add_(
            (attention or scale if "W_Q" in name or "W_K" in name else scale) * torch.randn_like(p)
        )
    return model


def network(seed: int = 0) -> DiT:
    """Random biases and output weights, so that forgetting one shows."""
    torch.manual_seed(seed)
    model = DiT(DiTConfig(depth=3, width=128)).eval().requires_grad_(False)
    for block in model.blocks:
        torch.nn.init.xavier_uniform_(block.cross_attn.W_O.weight)
        for layer in (
            block.cross_attn.W_Q,
            block.cross_attn.W_K,
            block.cross_attn.W_V,
            block.cross_attn.W_O,
        ):
            layer.bias.normal_(0, 0.2)
    torch.nn.init.xavier_uniform_(model.unembed.weight)
    return model
