"""Record and edit activations by name.

Names (shapes; `b` picture, `h` head, `i` image token, `s` source token, `d` width, `d_head` 64):

    blocks.L.resid_pre, resid_mid, resid_cross, resid_post              [b, i, d]
    blocks.L.attn_out, cross_attn_out, mlp_out                          [b, i, d]
    blocks.L.{attn,cross_attn}.q, z                                     [b, h, i, d_head]
    blocks.L.{attn,cross_attn}.k, v                                     [b, h, s, d_head]
    blocks.L.{attn,cross_attn}.scores, pattern                          [b, h, i, s]
    blocks.L.{attn,cross_attn}.result                                   [b, h, i, d]

`result` is what each head writes; summed over heads plus the output bias it is the layer's output.
In a guided step the first half of `b` is the conditional pass and the second the unconditional one,
each in the order of the pictures; in the steps after guidance has stopped there is only the
conditional pass.
"""

from collections.abc import Callable, Iterable
from contextlib import contextmanager
from fnmatch import fnmatchcase

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import RelcoreError
from ..model.dit import DiT

SITES = (
    "resid_pre",
    "attn_out",
    "resid_mid",
    "cross_attn_out",
    "resid_cross",
    "mlp_out",
    "resid_post",
)
PARTS = ("q", "k", "v", "scores", "pattern", "z", "result")
Edit = Callable[[Tensor, int], Tensor]  # (value, step) -> value


def activation_names(model: DiT) -> list[str]:
    """Every name that can be captured, in no particular order of computation."""
    return [
        f"blocks.{layer}.{name}"
        for layer in range(model.config.depth)
        for name in (
            *SITES,
            *(f"{kind}.{part}" for kind in ("attn", "cross_attn") for part in PARTS),
        )
    ]


def described(value) -> str:
    if not isinstance(value, Tensor):
        return "None" if value is None else f"a {type(value).__name__}"
    return f"{list(value.shape)} of {str(value.dtype).removeprefix('torch.')} on {value.device}"


def together(earlier: Tensor, value: Tensor, branches: int, padding: float) -> Tensor:
    """Activations of two batches as of one: branch by branch, and padded to the longer prompt."""
    # [branch, picture, ...]
    parts = [part.unflatten(0, (branches, -1)) for part in (earlier, value)]
    sizes = [max(pair) for pair in zip(*(part.shape[2:] for part in parts), strict=True)]
    for k, part in enumerate(parts):
        missing = [size - have for size, have in zip(sizes, part.shape[2:], strict=True)]
        parts[k] = F.pad(part, [n for m in reversed(missing) for n in (0, m)], value=padding)
    return torch.cat(parts, 1).flatten(0, 1)


class Tap:
    """What the network calls at each named activation while a capture is open.

    Copies throughout. One tensor goes by several names (resid_post, the next block's resid_pre) and
    serves all steps (a prompt's keys and values), and the caller holds what is recorded and what an
    edit got or gave: a change in place would reach them all. Copying what is recorded takes 1 % of
    sampling, 5 % for every head's result.
    """

    def __init__(self, names: set[str], edits: dict[str, Edit]):
        self.cache: dict[tuple[str, int], Tensor] = {}
        self.step = 0
        self._names, self._edits = names, edits
        self._wanted = names | edits.keys()
        self._pictures = 0  # in the batch that `sample` began last
        self._branches: dict[tuple[str, int], int] = {}  # of guidance, 1 or 2

    def new_batch(self, pictures: int) -> None:
        """Called by `diffusion.sample` before it draws so many pictures."""
        self.step, self._pictures = 0, pictures

    def wants(self, name: str) -> bool:
        """Whether this activation, or any inside this attention layer, is recorded or edited."""
        return any(w == name or w.startswith(name + ".") for w in self._wanted)

    def __call__(self, name: str, value: Tensor) -> Tensor:
        if edit := self._edits.get(name):
            edited = edit(value.clone(), self.step)
            if described(edited) != described(value):
                raise RelcoreError(
                    f"the edit of '{name}' must return a tensor like the one it is given, "
                    f"{described(value)}; it returned {described(edited)}"
                )
            value = edited.clone()
        if name in self._names:
            self._record(name, value.detach())
        return value

    def _record(self, name: str, value: Tensor) -> None:
        key, branches = (name, self.step), len(value) // (self._pictures or len(value))
        if key not in self.cache or not self._pictures:
            self.cache[key] = value.clone()
        elif self._branches[key] == branches:
            padding = -torch.inf if name.endswith("scores") else 0
            self.cache[key] = together(self.cache[key], value, branches, padding)
        else:
            raise RelcoreError(
                f"'{name}' at step {self.step} holds pictures drawn with other guidance, or none: "
                "give every way of drawing a capture of its own"
            )
        self._branches[key] = branches


@contextmanager
def capture(model: DiT, names: Iterable[str] = (), edits: dict[str, Edit] | None = None):
    """`with capture(model, names) as cache:` records activations, as cache[name, step].

    names: activation names; `*` matches any part (`blocks.*.cross_attn.pattern`).
    edits: {name: edit(value, step) -> value}, applied before recording; names may hold `*` too.
    An edit gets a copy, which it may change and return; what it returns must have the same shape,
    dtype and device. It sees one batch.
    step: counts the network's forward passes, from 0 in every batch that `sample` draws. It is the
    sampling step; Heun's sampler has two passes per step. Outside `sample` it counts on from the
    capture's opening.
    cache[name, step] holds all pictures that `sample` has drawn, over its batches and calls, in the
    layout of one batch: first the conditional rows of all pictures, then the unconditional ones.
    Where batches have prompts of different lengths, the shorter are padded: pattern, k and v with
    0, scores with -inf.
    With nothing to record or edit the network runs its usual path; recording changes no bit of its
    output, unless it is compiled. Raises RelcoreError for a name that matches nothing, an edit that
    returns something else, and pictures of different guidance at one name and step. The tap is
    removed on the way out, also after an exception.
    """
    everything = activation_names(model)

    def expand(pattern: str) -> list[str]:
        found = [name for name in everything if fnmatchcase(name, pattern)]
        if not found:
            raise RelcoreError(
                f"no activation is called '{pattern}': names look like "
                f"blocks.0.cross_attn.pattern (blocks 0 to {model.config.depth - 1})"
            )
        return found

    if model.tap is not None:
        raise RelcoreError(
            "another capture of this model is open: put the names and edits into one"
        )
    wanted = {name for pattern in names for name in expand(pattern)}
    changed = {name: edit for pattern, edit in (edits or {}).items() for name in expand(pattern)}
    tap = Tap(wanted, changed)
    handle = model.register_forward_hook(lambda *_: setattr(tap, "step", tap.step + 1))
    model.tap = tap if wanted or changed else None
    try:
        yield tap.cache
    finally:
        model.tap = None
        handle.remove()
