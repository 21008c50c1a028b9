"""A PixArt transformer of diffusers under relcore's activation names: `PixArt(transformer)` is a
model for the kernels.

Not a conversion into `DiT`, which cannot hold a released PixArt: heads are 72 wide there, not 64;
pictures are latents of 4 channels with a learned variance beside them; GELU is the tanh form;
positions are interpolated. Instead each block of the transformer computes by relcore's
`Block.forward` on its own parameters from then on: the same numbers to rounding, every activation
named as in `kernels/capture.py`. All around the blocks stays diffusers', so that a pipeline which
holds the transformer is captured and edited, too. No fused attention, no dropout inside it: for
eval mode. Parts are looked up in the transformer at every use, as adapters (LoRA) put layers in
their place.
"""

from dataclasses import dataclass
from functools import partial
from operator import attrgetter

from torch import Tensor, nn

from ..data.encoders import Text
from ..errors import RelcoreError
from .dit import Attention, Block, DiTConfig


@dataclass(frozen=True)
class PixArtConfig(DiTConfig):
    """As `DiTConfig`, with heads of any width and pictures of any number of channels."""

    heads: int = 16
    channels: int = 4


def part(name: str) -> property:
    """The submodule or parameter of `self.source` that has this name now."""
    return property(lambda self: attrgetter(name)(self.source))


class PixArtAttention(Attention):  # on the parameters of a diffusers attention
    W_Q, W_K, W_V = part("to_q"), part("to_k"), part("to_v")
    W_O = property(lambda self: self.source.to_out[0])

    def __init__(self, source, name: str):
        nn.Module.__init__(self)
        self.source, self.name, self.heads = source, name, source.heads


class PixArtBlock(Block):  # on the parameters of a diffusers block
    mlp, scale_shift = part("ff"), part("scale_shift_table")

    def __init__(self, source, index: int):
        nn.Module.__init__(self)
        self.source, self.name = source, f"blocks.{index}"
        self.attn = PixArtAttention(source.attn1, f"{self.name}.attn")
        self.cross_attn = PixArtAttention(source.attn2, f"{self.name}.cross_attn")


def check(transformer, watched: bool = False) -> None:
    """RelcoreError if the transformer has `obstacles`."""
    if found := obstacles(transformer, watched):
        raise RelcoreError(f"cannot watch this transformer: it has {' and '.join(found)}")


def obstacles(transformer, watched: bool) -> list[str]:
    """What this transformer has that `PixArt` would compute otherwise.

    Diffusers itself refuses other norm types. watched: whether a `PixArt` computes its blocks.
    """
    if type(transformer).__name__ != "PixArtTransformer2DModel":
        return [f"the class {type(transformer).__name__}, not PixArtTransformer2DModel"]
    c, blocks = transformer.config, transformer.transformer_blocks
    attention = [a for block in blocks for a in (block.attn1, block.attn2) if a]
    processors = {type(a.processor).__name__ for a in attention} - {
        "AttnProcessor",
        "AttnProcessor2_0",
    }
    found = {
        "norms with weights, or an eps other than 1e-6": c.norm_elementwise_affine
        or c.norm_eps != 1e-6,
        "no cross-attention, or a gated one": c.cross_attention_dim is None
        or c.attention_type != "default",
        "normalised queries or keys": any(
            a.norm_q is not None or a.norm_k is not None for a in attention
        ),
        f"other attention processors ({', '.join(sorted(processors))})": processors,
        "replaced blocks (watched already, or offloaded one by one)": (
            not watched and any("forward" in vars(b) for b in blocks)
        ),
    }
    return [text for text, true in found.items() if true]


class PixArt(nn.Module):
    """A model for the kernels on a PixArtTransformer2DModel, changed in place.

    Raises RelcoreError for a transformer that it would not compute as diffusers does, and at the
    next pass if it becomes one later.
    """

    caption_mlp = property(lambda self: self.transformer.caption_projection or nn.Identity())

    def __init__(self, transformer):
        super().__init__()
        check(transformer)
        c = transformer.config
        text_dim = c.caption_channels or c.cross_attention_dim
        self.config = PixArtConfig(
            c.num_layers,
            transformer.inner_dim,
            c.sample_size,
            c.patch_size,
            text_dim,
            c.num_attention_heads,
            c.in_channels,
        )
        self.transformer, self.tap = transformer, None
        self.blocks = nn.ModuleList(
            PixArtBlock(source, i) for i, source in enumerate(transformer.transformer_blocks)
        )
        for source, block in zip(transformer.transformer_blocks, self.blocks, strict=True):
            source.forward = partial(self._block, block)
        transformer.register_forward_pre_hook(lambda *_: check(transformer, watched=True))

    @property
    def positions(self) -> Tensor:
        """[image, d], of a square picture of the size the transformer was made for."""
        return self.transformer.pos_embed.pos_embed[0]

    def _block(
        self,
        block: PixArtBlock,
        x: Tensor,
        attention_mask=None,
        encoder_hidden_states=None,
        encoder_attention_mask=None,
        timestep=None,
        *_,
        **__,
    ) -> Tensor:
        """As diffusers calls a block; encoder_attention_mask [batch, 1, token]: added to scores."""
        if attention_mask is not None:
            raise RelcoreError("a mask on image tokens is not supported: leave attention_mask out")
        mask = None if encoder_attention_mask is None else encoder_attention_mask[:, None]
        keys, values = block.cross_attn.keys_values(encoder_hidden_states)
        return block(x, timestep.unflatten(1, (6, -1)), keys, values, mask, self.tap)

    def register_forward_hook(self, hook, **options):
        """On the transformer: a capture counts its passes, also those that a pipeline makes."""
        return self.transformer.register_forward_hook(hook, **options)

    def read_text(self, text: Text) -> Text:
        return text  # keys and values are computed in every pass, as in diffusers

    def forward(self, image: Tensor, t: Tensor, text: Text) -> Tensor:
        """As `DiT.forward`, predicting noise without its variance: for `sample(...,
        process=IDDPM())`.

        Raises RelcoreError if the transformer takes what only its pipeline can give it.
        """
        if image.shape[1] != self.config.channels or self.transformer.use_additional_conditions:
            raise RelcoreError(
                f"this transformer takes {self.config.channels} channels, or conditions too; "
                "relcore draws 3 channels without: draw with its pipeline"
            )
        # 999 is noise, 0 the step before clean.
        timestep = (1000 * (1 - t) - 1).round().clamp(min=0).long()
        return self.transformer(
            image,
            encoder_hidden_states=text.embeddings,
            encoder_attention_mask=text.mask,
            timestep=timestep,
            return_dict=False,
        )[0][:, : self.config.channels]
