"""The Diffusion Transformer (DiT): a PixArt block on pixel patches.

Axes: `batch`, `head`, `image` (64 image tokens, row by row), `token` (text tokens), `d` (width),
`d_head` = 64. A block is self-attention (adaLN-single, gated), cross-attention on the raw residual
stream (no norm, no modulation, zero-init output), MLP (adaLN-single, gated): PixArt-alpha
(Chen et al. 2023), which the paper trains. The text does not depend on time, so its keys and
values are computed once per prompt: `read_text`.

Activations have TransformerLens-like names (`blocks.2.cross_attn.pattern`); see
`kernels/capture.py`.
"""

import math
import os
import shutil
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..data.encoders import Text
from ..errors import RelcoreError

D_HEAD = 64


@dataclass(frozen=True)
class DiTConfig:
    """Architecture only; how a model was trained stands in its checkpoint's recipe."""

    depth: int = 6
    width: int = 192
    image_size: int = 64  # pixels a side
    # Pixels a side of a token; image_size / patch = 8 keeps the paper's 8 x 8 tokens.
    patch: int = 8
    text_dim: int = 384  # width of the text encoder's embeddings

    @property
    def heads(self) -> int:
        return self.width // D_HEAD

    @property
    def grid(self) -> int:
        return self.image_size // self.patch


# depth x width x heads, as the paper's models of these names.
PRESETS = {
    "nano": DiTConfig(3, 192),
    "micro": DiTConfig(6, 192),
    "mini": DiTConfig(6, 384),
    "S": DiTConfig(12, 384),
    "B": DiTConfig(12, 768),
}


def position_table(grid: int, width: int) -> Tensor:
    """Fixed 2-D sin-cos positions [image, d]: first half of the channels encodes x, second half y.

    Coordinates are 0..grid-1; each half is [sin | cos] with rates 10000^(-k / (width / 4)).
    Always on the CPU and real: no checkpoint holds it, so a network built on "meta" needs it as it
        is.
    """
    rate = 10000 ** (-torch.arange(width // 4, dtype=torch.float64, device="cpu") / (width // 4))
    wave = torch.arange(grid, device="cpu")[:, None] * rate
    axis = torch.cat([wave.sin(), wave.cos()], 1).float()  # [coordinate, width / 2]
    x = axis.expand(grid, grid, -1)
    y = axis[:, None].expand(grid, grid, -1)
    return torch.cat([x, y], -1).flatten(0, 1)


def time_features(t: Tensor, dim: int = 256) -> Tensor:
    """Sinusoids [batch, dim] of times in [0, 1], scaled by 1000 as in DDPM's step count."""
    rate = torch.exp(-math.log(10000) * torch.arange(dim // 2, device=t.device) / (dim // 2))
    wave = 1000 * t[:, None] * rate
    return torch.cat([wave.cos(), wave.sin()], 1)


def unpatchify(patches: Tensor) -> Tensor:
    """[batch, gy, gx, py, px, rgb] -> [batch, rgb, y, x]"""
    return patches.permute(0, 5, 1, 3, 2, 4).flatten(4).flatten(2, 3)


def noted(tap, part: nn.Module, name: str, value: Tensor) -> Tensor:
    """An activation, as the tap hands it on. Without a tap the part's name is not touched: it would
    tell a compiler that no two blocks are alike.
    """
    return tap(f"{part.name}.{name}", value) if tap else value


def affine(layer: nn.Module, like: Tensor) -> tuple[Tensor, Tensor | float]:
    """Weight [out, in] and bias [out] of a projection, which takes the dtype and device of `like`.

    nn.Linear has them. What stands in its place need not: the `weight` of a LoRA layer is that of
    its base alone, and a quantised one is packed. There both are read from what it makes of the
    unit vectors and of 0. Raises RelcoreError if its output is not affine in its input.
    """
    if type(layer) is nn.Linear:
        return layer.weight, 0 if layer.bias is None else layer.bias
    size = 1024  # of the units: against it the bias is small, and costs the weight no digits
    units = size * torch.eye(layer.in_features, dtype=like.dtype, device=like.device)
    bias, there, back = layer(torch.zeros_like(units[0])), layer(units), layer(-units)
    if (there + back - 2 * bias).abs().max() > 0.01 * there.abs().max():
        raise RelcoreError(
            f"a projection of class {type(layer).__name__} has no weight to read, as its output is "
            "not linear in its input: put the model in eval mode, or merge the adapter"
        )
    return (there - bias).T / size, bias


class Attention(nn.Module):
    """Multi-head attention with separate W_Q, W_K, W_V, W_O (screening and ablation need them)."""

    def __init__(self, width: int, name: str):
        super().__init__()
        self.name, self.heads = name, width // D_HEAD
        self.W_Q, self.W_K, self.W_V, self.W_O = (nn.Linear(width, width) for _ in range(4))

    def split(self, x: Tensor) -> Tensor:
        """[batch, position, d] -> [batch, head, position, d_head]"""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def keys_values(self, source: Tensor) -> tuple[Tensor, Tensor]:
        return self.split(self.W_K(source)), self.split(self.W_V(source))

    def forward(self, x: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, tap) -> Tensor:
        """x: [batch, image, d]; k, v: [batch, head, source, d_head]; mask: [batch, 1, 1, source].

        A mask is bool, True where attended, or float, added to the scores: as in torch's attention.
        """
        # Written out, not torch's fused attention: that is a third as fast on a CPU, and gives no
        # pattern.
        tap = tap if tap and tap.wants(self.name) else None
        note = partial(noted, tap, self)
        q, k, v = note("q", self.split(self.W_Q(x))), note("k", k), note("v", v)
        scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])  # [batch, head, image, source]
        if mask is not None:
            hide = mask.dtype == torch.bool
            scores = scores.masked_fill(~mask, -torch.inf) if hide else scores + mask
        pattern = note("pattern", note("scores", scores).softmax(-1))
        z = note("z", pattern @ v)  # [batch, head, image, d_head]
        if tap and tap.wants(f"{self.name}.result"):
            weight, bias = affine(self.W_O, z)
            w_o = weight.unflatten(1, (self.heads, -1))  # [d, head, d_head]
            result = torch.einsum("bhid,ehd->bhie", z, w_o)  # [batch, head, image, d]
            edited = note("result", result)
            if edited is not result:  # else not summed here, which would round otherwise
                return edited.sum(1) + bias
        return self.W_O(z.transpose(1, 2).flatten(2))


def modulation(rows: int, width: int) -> nn.Parameter:
    """Shifts, scales and gates [rows, d], drawn from N(0, 1 / width)."""
    table = torch.empty(rows, width)
    return nn.Parameter(table if table.is_meta else table.normal_() / width**0.5)


class Block(nn.Module):
    def __init__(self, width: int, index: int):
        super().__init__()
        self.name = f"blocks.{index}"
        self.attn = Attention(width, f"{self.name}.attn")
        self.cross_attn = Attention(width, f"{self.name}.cross_attn")
        # GELU in its erf form: 2.7 times faster than PixArt's tanh approximation on a CPU.
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )
        self.scale_shift = modulation(6, width)

    def forward(self, x: Tensor, time: Tensor, k: Tensor, v: Tensor, mask: Tensor, tap) -> Tensor:
        """x: [batch, image, d]; time: [batch, 6, d], shared by all blocks; k, v: of the text."""
        note = partial(noted, tap, self)
        shift1, scale1, gate1, shift2, scale2, gate2 = (time + self.scale_shift)[:, :, None].unbind(
            1
        )
        x = note("resid_pre", x)
        h = F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale1) + shift1
        x = x + gate1 * note("attn_out", self.attn(h, *self.attn.keys_values(h), None, tap))
        x = note("resid_mid", x)
        x = x + note("cross_attn_out", self.cross_attn(x, k, v, mask, tap))
        x = note("resid_cross", x)
        h = F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale2) + shift2
        x = x + gate2 * note("mlp_out", self.mlp(h))
        return note("resid_post", x)


@dataclass
class TextState:
    """What the network needs of the prompts: every layer's text keys and values, and the mask.

    keys, values: one [prompt, head, token, d_head] a layer; mask: bool [prompt, 1, 1, token].
    """

    keys: list[Tensor]
    values: list[Tensor]
    mask: Tensor

    def __getitem__(self, rows) -> "TextState":
        return TextState(
            [k[rows] for k in self.keys], [v[rows] for v in self.values], self.mask[rows]
        )


class DiT(nn.Module):
    """Predicts the clean picture (or the noise) from a noisy one, the time and the prompt."""

    def __init__(self, config: DiTConfig):
        super().__init__()
        if config.width % D_HEAD or config.image_size % config.patch:
            raise RelcoreError(
                f"{config}: width must be a multiple of {D_HEAD}, image_size of patch"
            )
        self.config = config
        width, pixels = config.width, 3 * config.patch**2
        self.patch_embed = nn.Linear(pixels, width)
        self.register_buffer("positions", position_table(config.grid, width), persistent=False)
        self.caption_mlp = nn.Sequential(
            nn.Linear(config.text_dim, width), nn.GELU(), nn.Linear(width, width)
        )
        self.time_mlp = nn.Sequential(nn.Linear(256, width), nn.SiLU(), nn.Linear(width, width))
        self.time_block = nn.Linear(width, 6 * width)
        self.blocks = nn.ModuleList(Block(width, i) for i in range(config.depth))
        self.final_scale_shift = modulation(2, width)
        self.unembed = nn.Linear(width, pixels)
        # Set by kernels.capture: called as tap(name, activation) -> activation, and by `sample` as
        # tap.new_batch(pictures).
        self.tap = None
        self.run_block = Block.forward  # or as `compiled`
        self._initialise()

    def _initialise(self) -> None:
        """PixArt's: xavier-uniform, zero biases, time MLP N(0, .02), zero outputs.

        Its N(0, .02) for the caption MLP is left out: with it the text enters at a tenth of the
        image tokens' size, is noise to the network at first, and is turned down before anything is
        learned from it.
        """
        # Values come from a file; and drawing there imports torch's compiler, 1 s.
        if self.unembed.weight.is_meta:
            return
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        for layer in (self.time_mlp[0], self.time_mlp[2], self.time_block):
            nn.init.normal_(layer.weight, std=0.02)
        for layer in (*(b.cross_attn.W_O for b in self.blocks), self.unembed):
            nn.init.zeros_(layer.weight)

    def compiled(self) -> "DiT":
        """This network with its blocks compiled (torch.compile): a pass takes about three quarters
        of the time.

        The first one compiles, for some twenty seconds, one block for all. A block in which
        something is captured or edited runs as written. Compiling changes the rounding.
        Raises RelcoreError where there is no C++ compiler.
        """
        if not any(
            map(shutil.which, filter(None, (os.environ.get("CXX"), "g++", "clang++", "cl")))
        ):
            raise RelcoreError(
                "no C++ compiler to compile the network with: install g++ or clang, or do without"
            )
        # The pattern matcher would put torch's fused attention back in.
        self.run_block = torch.compile(
            Block.forward, dynamic=True, options={"pattern_matcher": False}
        )
        return self

    def read_text(self, text: Text) -> TextState:
        """Caption MLP and each layer's text keys and values: once per prompt, not per step.

        Raises RelcoreError for a prompt without tokens: attention to nothing is not a number.
        """
        if not text.mask.any(1).all():
            empty = int(text.mask.any(1).int().argmin())
            raise RelcoreError(
                f"the mask leaves no token of prompt {empty} of {len(text.mask)}, counted from 0: "
                "an encoder must give every prompt at least one"
            )
        source = self.caption_mlp(text.embeddings)  # [prompt, token, d]
        pairs = [block.cross_attn.keys_values(source) for block in self.blocks]
        return TextState([k for k, _ in pairs], [v for _, v in pairs], text.mask[:, None, None])

    def forward(self, image: Tensor, t: Tensor, text: Text | TextState) -> Tensor:
        """image: [batch, rgb, y, x] in [-1, 1] plus noise; t: [batch] in [0, 1], 1 is clean.

        Returns the prediction, shaped as the image.
        """
        state = text if isinstance(text, TextState) else self.read_text(text)
        g, p = self.config.grid, self.config.patch
        patches = image.unflatten(3, (g, p)).unflatten(2, (g, p))  # [batch, rgb, gy, py, gx, px]
        # [batch, image, pixels]
        patches = patches.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)
        x = self.patch_embed(patches) + self.positions
        t_vector = self.time_mlp(time_features(t))  # [batch, d]
        time = self.time_block(F.silu(t_vector)).unflatten(1, (6, -1))  # [batch, 6, d]
        for block, k, v in zip(self.blocks, state.keys, state.values, strict=True):
            tap = self.tap if self.tap and self.tap.wants(block.name) else None
            x = (Block.forward if tap else self.run_block)(block, x, time, k, v, state.mask, tap)
        shift, scale = (t_vector[:, None] + self.final_scale_shift)[:, :, None].unbind(1)
        x = F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale) + shift
        return unpatchify(self.unembed(x).unflatten(1, (g, g)).unflatten(3, (p, p, 3)))
