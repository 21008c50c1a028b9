"""Record and edit activations by name.

Names (shapes; `b` picture, `h` head, `i` image token, `s` source token, `d` width, `d_head` 64):

    blocks.L.resid_pre, resid_mid, resid_cross, resid_post              [b, i, d]
    blocks.L.attn_out, cross_attn_out, mlp_out                          [b, i, d]
    blocks.L.{attn,cross_attn}.q, z                                     [b, h, i, d_head]
    blocks.L.{attn,cross_attn}.k, v                                     [b, h, s, d_head]
    blocks.L.{attn,cross_attn}.scores, pattern                          [b, h, i, s]
    blocks.L.{attn,cross_attn}.result                                   [b, h, i, d]

`result` is what each head writes; summed over heads plus the output bias it is the layer's output.
In a guided step the first half of `b` is the conditional pass and the second the unconditional one; in the
steps after guidance has stopped there is only the conditional pass.
"""

from collections.abc import Callable, Iterable
from contextlib import contextmanager
from fnmatch import fnmatchcase

from torch import Tensor

from ..errors import RelcoreError
from ..model.dit import DiT

SITES = ("resid_pre", "attn_out", "resid_mid", "cross_attn_out", "resid_cross", "mlp_out", "resid_post")
PARTS = ("q", "k", "v", "scores", "pattern", "z", "result")


def activation_names(model: DiT) -> list[str]:
    """Every name that can be captured, in no particular order of computation."""
    return [
        f"blocks.{layer}.{name}"
        for layer in range(model.config.depth)
        for name in (*SITES, *(f"{kind}.{part}" for kind in ("attn", "cross_attn") for part in PARTS))
    ]


class Tap:
    """What the network calls at each named activation while a capture is open."""

    def __init__(self, names: set[str], edits: dict[str, Callable[[Tensor, int], Tensor]]):
        self.cache: dict[tuple[str, int], Tensor] = {}
        self.step = 0
        self._names, self._edits = names, edits
        self._wanted = names | edits.keys()

    def wants(self, name: str) -> bool:
        """Whether this activation, or any inside this attention layer, is recorded or edited."""
        return any(w == name or w.startswith(name + ".") for w in self._wanted)

    def __call__(self, name: str, value: Tensor) -> Tensor:
        if edit := self._edits.get(name):
            value = edit(value, self.step)
        if name in self._names:
            self.cache[name, self.step] = value.detach()
        return value


@contextmanager
def capture(model: DiT, names: Iterable[str] = (), edits: dict[str, Callable[[Tensor, int], Tensor]] | None = None):
    """`with capture(model, names) as cache:` records activations, as cache[name, step].

    names: activation names; `*` matches any part (`blocks.*.cross_attn.pattern`).
    edits: {name: edit(value, step) -> value}, applied before recording; names may hold `*` too.
    step counts the network's forward passes since the capture was opened: the sampling step;
    with Heun's sampler two a step.
    With nothing to record or edit the network runs its usual path. Raises RelcoreError for a name
    that matches nothing. The tap is removed on the way out, also after an exception.
    """
    everything = activation_names(model)

    def expand(pattern: str) -> list[str]:
        found = [name for name in everything if fnmatchcase(name, pattern)]
        if not found:
            raise RelcoreError(f"no activation is called '{pattern}': names look like "
                               f"blocks.0.cross_attn.pattern (blocks 0 to {model.config.depth - 1})")  # fmt: skip
        return found

    if model.tap is not None:
        raise RelcoreError("another capture of this model is open: put the names and edits into one")
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
