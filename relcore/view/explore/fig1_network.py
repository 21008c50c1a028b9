"""Figure 1: the network, from the prompt to the picture."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from ...errors import require
from ...face import Model
from ...model.diffusion import to_pixels
from .base import Explorable, packed, picture_url, source, titled, word_maps, words_of

PARTS = (
    *("prompt", "encoder", "caption_mlp", "noise", "embed", "stream", "self_attention"),
    *("cross_attention", "mlp", "picture"),
)


class Network(Explorable):
    _esm = source("fig1_network")


def network(
    models: Sequence[Model],
    prompt: str = "red circle is above blue triangle",
    seed: int = 0,
    titles: Sequence[str] | None = None,
    lit: Sequence[str] = (),
) -> Network:
    """The network as a drawing: every part says what it does and its shape; play sends a prompt
    through it until the picture stands. The cross-attention shows the measured pattern of the head
    that looks most at the relation words, or, of a contextual encoder, at the second shape word.

    models: of which one is shown at a time. lit: the PARTS that a chapter is about, all others are
    dimmed; none: all are lit. titles: a line a model.
    """
    for part in lit:
        require("part", part, PARTS)
    titles = titles or [titled(model) for model in models]

    def drawn(prompt: str, seed: int) -> list[dict]:
        return [_shapes(model, prompt) | _drawn(model, prompt, seed)[0] for model in models]

    frames = [_drawn(model, prompt, seed) for model in models]
    told = [
        {"title": title, **_shapes(model, prompt), **strips}
        for title, model, (strips, *_) in zip(titles, models, frames, strict=True)
    ]
    _, *ends = frames[0]
    chosen = {"network": 0, "step": told[0]["passes"] - 1, "part": lit[0] if lit else "prompt"}
    alt = (
        "The diffusion transformer: the prompt's words pass through a text encoder and the caption "
        "MLP into the keys and values of the cross-attention, by which the image tokens read them "
        "while noise becomes a picture."
    )
    data = {"networks": told, "prompt": prompt, "lit": list(lit)}
    return Network(data, chosen, alt, lambda: _still(prompt, *ends), drawn)


def _shapes(model: Model, prompt: str) -> dict:
    config = model.network.config
    return {
        "words": [[word, role] for word, role, _ in words_of(model.encoder, prompt)],
        "tokens": int(model.encoder.encode([prompt]).mask.sum()),
        "contextual": model.encoder.contextual,
        "parameters": sum(weight.numel() for weight in model.network.parameters()),
        "head": config.width // config.heads,
        **{name: getattr(config, name) for name in ("depth", "width", "heads", "grid")},
        **{name: getattr(config, name) for name in ("text_dim", "patch", "image_size")},
    }


def _drawn(model: Model, prompt: str, seed: int) -> tuple[dict, np.ndarray, np.ndarray]:
    """The noisy pictures and the predicted clean ones, side by side, and one head's attention; the
    first and the last picture.
    """
    noisy, clean = [], []

    def keep(now: dict) -> None:
        noisy.append(to_pixels(now["x"])[0].numpy())
        clean.append(to_pixels(now["denoised"])[0].numpy())

    with model.capture(["blocks.*.cross_attn.pattern"]) as cache:
        [last] = model.draw(prompt, seed, callback=keep)
    maps = word_maps(model, cache, prompt)  # [layer, head, step, image, word]
    wanted = "shape2" if model.encoder.contextual else "relation"
    read = [role == wanted for _, role, _ in words_of(model.encoder, prompt)]
    looks = maps[..., read].sum(-1).mean((2, 3))
    head = np.unravel_index(looks.argmax(), looks.shape)
    strips = {"noisy": noisy, "clean": clean}
    told = {name: picture_url(np.concatenate(frames, 1)) for name, frames in strips.items()}
    told |= {"pattern": packed(maps[head], 0, 1), "shown": [int(i) for i in head], "read": wanted}
    return told | {"passes": len(noisy)}, noisy[0], last


def _still(prompt: str, noise: np.ndarray, picture: np.ndarray) -> Figure:
    """The parts as boxes in a row, for print."""
    figure, axis = plt.subplots(figsize=(8.6, 2.6))
    boxes = {
        "prompt": (0, 2, prompt.replace(" ", "\n", 1)),
        "encoder": (2.3, 2, "text\nencoder"),
        "caption": (4.1, 2, "caption\nMLP"),
        "block": (5.9, 1, "blocks: self-attention,\ncross-attention, MLP"),
    }
    look = {"boxstyle": "round,pad=0.4", "fc": "white", "ec": "#5f5f5f"}
    for x, y, text in boxes.values():
        axis.text(x, y, text, ha="left", va="center", fontsize=8, bbox=look)
    for start, end in (((1.7, 2), (2.2, 2)), ((3.2, 2), (4, 2)), ((5.1, 2), (6.6, 1.35))):
        axis.annotate("", end, start, arrowprops={"arrowstyle": "->", "color": "#5f5f5f"})
    for picture_, left in ((noise, 3.9), (picture, 8.9)):
        axis.imshow(picture_, extent=(left, left + 1, 0.5, 1.5), interpolation="nearest")
    for start, end in (((5, 1), (5.7, 1)), ((8.2, 1), (8.8, 1))):
        axis.annotate("", end, start, arrowprops={"arrowstyle": "->", "color": "#5f5f5f"})
    axis.set(xlim=(-0.2, 10.2), ylim=(0.2, 2.7))
    axis.axis("off")
    return figure
