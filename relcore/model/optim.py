"""Optimisers: Muon for the blocks' matrices, AdamW for everything else."""

import torch
from torch import Tensor, nn

from .dit import DiT

ITERATIONS = 4  # of Newton-Schulz


def orthogonalise(stack: Tensor) -> Tensor:
    """Newton-Schulz iteration (Jordan et al. 2024): the nearest semi-orthogonal matrices, roughly.

    stack: [matrix, row, column] with row <= column, as is the result.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    x = stack / (stack.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(ITERATIONS):
        gram = x @ x.mT  # [matrix, row, row]
        poly = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)  # b G + c G^2
        x = torch.baddbmm(x, poly, x, beta=a)  # a X + (b G + c G^2) X
    return x


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalised (Jordan et al. 2024), batched over equal shapes.

    dtype: of the iteration. torch.optim.Muon's is always bfloat16, a hundred times slower than
    fp32 on a CPU without bf16 units.
    """

    def __init__(
        self, params, lr: float = 0.02, momentum: float = 0.95, dtype: torch.dtype = torch.float32
    ):
        super().__init__(list(params), {"lr": lr, "momentum": momentum, "dtype": dtype})

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            by_shape: dict[tuple, list] = {}
            for p in group["params"]:
                if p.grad is None:
                    continue
                buffer = self.state[p].setdefault("momentum", torch.zeros_like(p))
                buffer.lerp_(p.grad, 1 - group["momentum"])
                update = p.grad.lerp(buffer, group["momentum"])  # Nesterov
                wide = update if update.shape[0] <= update.shape[1] else update.T
                by_shape.setdefault(tuple(wide.shape), []).append((p, wide))
            for pairs in by_shape.values():
                stack = torch.stack([wide for _, wide in pairs]).to(group["dtype"])
                for (p, _), o in zip(pairs, orthogonalise(stack), strict=True):
                    p.add_(
                        o if p.shape[0] <= p.shape[1] else o.T,
                        alpha=-group["lr"] * max(1, p.shape[0] / p.shape[1]) ** 0.5,
                    )


def make_optimizers(
    model: DiT,
    name: str,
    lr: float,
    muon_lr: float,
    dtype: torch.dtype = torch.float32,
    caption_lr: float = 0.0,
) -> list[torch.optim.Optimizer]:
    """name: "muon" (matrices of the blocks by Muon, the rest by AdamW) or "adamw" (everything).

    caption_lr: AdamW's rate for the caption MLP; 0: lr. Each group has its rate as "peak", for a
        schedule to scale.
    """
    matrices = [
        p for n, p in model.blocks.named_parameters() if p.ndim == 2 and n.endswith("weight")
    ]
    if name == "adamw":
        matrices = []
    caption = list(model.caption_mlp.parameters())
    chosen = {id(p) for p in [*matrices, *caption]}
    rest = [p for p in model.parameters() if id(p) not in chosen]
    groups = [{"params": rest, "lr": lr}, {"params": caption, "lr": caption_lr or lr}]
    optimizers = [torch.optim.AdamW(groups, betas=(0.9, 0.95), weight_decay=0.0)]
    if matrices:
        optimizers.append(Muon(matrices, lr=muon_lr, dtype=dtype))
    for group in (group for optimizer in optimizers for group in optimizer.param_groups):
        group["peak"] = group["lr"]
    return optimizers


def ema_update(average: nn.Module, model: nn.Module, step: int, decay: float = 0.999) -> None:
    """Exponential moving average of the weights; the decay warms up as (1 + step) / (10 + step)."""
    rate = 1 - min(decay, (1 + step) / (10 + step))
    torch._foreach_lerp_(list(average.parameters()), [p.detach() for p in model.parameters()], rate)
