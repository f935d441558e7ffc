"""The flow head: noise to the latent of one token, given what the language model says about it (arXiv 2510.06590).

Shape suffixes: R rows (branches x batch), n tokens, C latent channels, W width of the head, S Euler steps.
"""

import math

import torch
from torch import Tensor, nn

from smalti.generators.ming.config import MingConfig
from smalti.nn.vit import SwiGLU

FREQUENCIES = 128
"""Pairs of the sinusoidal embedding of time."""
LONGEST_PERIOD = 10000.0
_ROWS = 256  # of modulations made ahead: about 120 MB in float32 at the published size


def time_features(times_S: Tensor) -> Tensor:
    """float32 [S, 256]: cosines, then sines, of 1000 (1 - t) with t = 0 at the noise (the net counts the other way)."""
    exponents = torch.arange(FREQUENCIES, dtype=torch.float32, device=times_S.device) / FREQUENCIES
    angles = (1 - times_S.float())[:, None] * 1000 * torch.exp(-math.log(LONGEST_PERIOD) * exponents)
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


class FlowBlock(nn.Module):
    """x + gate * feed_forward((1 + scale) norm(x) + shift)."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.feed_forward = SwiGLU(width, hidden)
        self.modulation = nn.Linear(width, 3 * width)

    def forward(self, x: Tensor, modulation: Tensor) -> Tensor:
        """[R, n, W] with modulation [R, n, 3 W]."""
        shift, scale, gate = modulation.chunk(3, dim=-1)
        return x + gate * self.feed_forward(self.norm(x) * (1 + scale) + shift)


class FlowHead(nn.Module):
    """Velocity (data - noise) of a noisy latent at a time, under a condition of the head's own width."""

    def __init__(self, config: MingConfig) -> None:
        super().__init__()
        width = config.flow_width
        self.time = nn.Sequential(nn.Linear(2 * FREQUENCIES, width), nn.SiLU(), nn.Linear(width, width))
        self.condition = nn.Linear(width, width)
        self.input = nn.Linear(config.latent_channels, width)
        self.blocks = nn.ModuleList(FlowBlock(width, config.flow_hidden) for _ in range(config.flow_depth))
        self.norm = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.modulation = nn.Linear(width, 2 * width)
        self.output = nn.Linear(width, config.latent_channels)

    @torch.no_grad()
    def initialize(self) -> None:
        """Weights to start training from, as the authors': every block the identity, velocity 0."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        for layer in (self.time[0], self.time[2]):
            nn.init.normal_(layer.weight, std=0.02)  # type: ignore[arg-type]
        for layer in (self.output, self.modulation, *(block.modulation for block in self.blocks)):
            nn.init.zeros_(layer.weight)  # type: ignore[arg-type]

    def embed_times(self, times_S: Tensor) -> Tensor:
        """[S, W] of times 0 (noise) .. 1 (data)."""
        return self.time(time_features(times_S).to(self.input.weight.dtype))

    def modulations(self, embedded: Tensor) -> list[Tensor]:
        """Of every block [..., 3 W], and of the output [..., 2 W], from time plus condition [..., W]."""
        active = nn.functional.silu(embedded)
        return [layer(active) for layer in (*(block.modulation for block in self.blocks), self.modulation)]  # type: ignore[operator]

    def velocity(self, x: Tensor, modulations: list[Tensor]) -> Tensor:
        """float32 [R, n, C] of noisy latents [R, n, C]."""
        h = self.input(x.to(self.input.weight.dtype))
        for block, modulation in zip(self.blocks, modulations[:-1], strict=True):
            h = block(h, modulation)
        shift, scale = modulations[-1].chunk(2, dim=-1)
        return self.output(self.norm(h) * (1 + scale) + shift).float()

    def forward(self, x: Tensor, times: Tensor, condition: Tensor) -> Tensor:
        """float32 velocity [R, n, C] of latents [R, n, C] at times [R, n] under conditions [R, n, W]."""
        embedded = self.embed_times(times.flatten()).unflatten(0, times.shape) + self.condition(condition)
        return self.velocity(x, self.modulations(embedded))


class Flow:
    """The velocities of some tokens, Euler step after Euler step: called as flow(x [r, n, C], step).

    What depends on the time alone comes in, what depends on the condition alone is computed once. The modulations need
    both but not x: those of many steps are made in one product, so that 28 % of the head's weights (at the published
    size) are read once a token and not once a step.
    """

    def __init__(self, head: FlowHead, times_SW: Tensor, condition_RnW: Tensor) -> None:
        self.head, self.times = head, times_SW
        self.condition = head.condition(condition_RnW)
        self.ahead = max(1, _ROWS // condition_RnW.shape[:2].numel())
        self.made = range(0)
        self.modulations: list[Tensor] = []

    def __call__(self, x_rnC: Tensor, step: int) -> Tensor:
        """float32 velocity [r, n, C] of the first r rows."""
        if step not in self.made:
            self.made = range(step, min(step + self.ahead, len(self.times)))
            times_S11W = self.times[self.made.start : self.made.stop, None, None]
            self.modulations = self.head.modulations(times_S11W + self.condition)
        at = step - self.made.start
        return self.head.velocity(x_rnC, [m[at, : len(x_rnC)] for m in self.modulations])
