"""The small autoregressive model that shapes LARP's codes in training, and is left behind (arXiv 2410.21264).

Shape suffixes: B batch, L tokens, C code width, D width, V codes.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smalti.nn.vit import Block, Mlp


class Prior(nn.Module):
    """Causal transformer from codes to the direction of the next code; it reads and writes vectors, not ids."""

    def __init__(self, *, channels: int, length: int, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.stem = nn.Linear(channels, width)
        self.positions = nn.Parameter(0.02 * torch.randn(1, length - 1, width))
        self.blocks = nn.ModuleList(Block(width, heads, Mlp(width, 4 * width), eps=1e-5) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, channels)

    def forward(self, codes_BLC: Tensor) -> Tensor:
        """Unit vectors [B, L - 1, C]: entry i is the guess of code i + 1 from codes 0..i."""
        x_BLD = self.stem(codes_BLC[:, :-1]) + self.positions
        for block in self.blocks:
            x_BLD = block(x_BLD, causal=True)
        return F.normalize(self.head(self.norm(x_BLD)), dim=-1)


def prior_loss(
    prior: Prior,
    codes_BLC: Tensor,
    ids_BL: Tensor,
    codebook_VC: Tensor,
    *,
    replaced: float,
    rounds: int,
    rng: torch.Generator,
) -> Tensor:
    """Mean cross-entropy of the next id over `rounds` passes; its gradient reaches the encoder through the codes.

    p(id_{i+1} = v | codes 0..i) = softmax_v(g_i . e_v), g the guess and e the codebook (detached, unit vectors). After
    every round a share `replaced` of the codes, the same in all rounds, becomes what the prior itself would draw
    (scheduled sampling, arXiv 1506.03099, done in parallel).
    """
    mask_BL = torch.rand(ids_BL[:, 1:].shape, generator=rng, device=rng.device).to(ids_BL.device) < replaced
    inputs_BLC, losses = codes_BLC, []
    for i in range(rounds):
        logits_BLV = (prior(inputs_BLC) @ codebook_VC.T).float()
        losses.append(F.cross_entropy(logits_BLV.flatten(0, 1), ids_BL[:, 1:].flatten()))
        if i < rounds - 1:
            probs = logits_BLV.detach().flatten(0, 1).softmax(dim=-1).to(rng.device)
            drawn_BL = torch.multinomial(probs, 1, generator=rng).view(mask_BL.shape).to(ids_BL.device)
            rest = torch.where(mask_BL[..., None], codebook_VC[drawn_BL], codes_BLC[:, 1:])
            inputs_BLC = torch.cat((codes_BLC[:, :1], rest), dim=1)
    return torch.stack(losses).mean()
