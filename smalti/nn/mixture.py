"""Two more terms for the training of any autoregressive generator over codes: tokens predicted from a random part of
the others, and all later tokens predicted at once.

After TokenUnify (arXiv 2405.16847), which mixes random, next and next-all prediction of continuous patches. There the
terms are runs one after the other; here they are a weighted sum over codes:

    loss = w_next CE(next) + w_masked CE(masked | visible) + w_all mean_{j >= k} CE(head(h_k + q_j), x_j)

with h_k the hidden state that has seen x_0 .. x_{k - 1}, and a learned query q_j per position. Where a step decides
several tokens at once, h_k has seen those of the steps before that of x_k.

LlamaGen, NAR, FlexAR, DetailFlow, Hita and RAR have them; the objectives of the last three say what each term means
there. Others do not:

- VAR is fed maps that sum up all coarser scales, so there is no input of one token that could be hidden, and a token of
  a later scale codes what the scales before it have left over, so it is no target before these are known;
- the masked generators of TiTok have the masked term as their own loss, and no order that tells the next token from
  later ones;
- Ming draws continuous tokens by a flow: there is no cross entropy to add up.

Shape suffixes: B batch, L tokens, n tokens of a term, D width, V codes.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class MixtureConfig:
    """Weights of the terms; the default is the family's own loss alone."""

    next: float = 1.0
    """Of the family's own loss, the next token."""
    masked: float = 0.0
    """Of tokens hidden at random and predicted from all others; costs one more pass."""
    next_all: float = 0.0
    """Of all tokens from a random place on, predicted from those before it; costs one more head."""
    masked_share: tuple[float, float] = (0.0, 1.0)
    """Smallest and largest share of hidden tokens; every step has one, evenly spread. At least one token is hidden."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "masked_share", tuple(self.masked_share))
        low, high = self.masked_share
        if not 0 <= low <= high <= 1:
            raise ValueError(f"masked_share must satisfy 0 <= low <= high <= 1, got {self.masked_share}")
        if min(self.next, self.masked, self.next_all) < 0:
            raise ValueError(
                f"weights must not be negative, got next {self.next}, masked {self.masked}, next_all {self.next_all}"
            )

    @property
    def active(self) -> bool:
        """False for the family's own loss alone."""
        return (self.next, self.masked, self.next_all) != (1, 0, 0)


class Mixable(Protocol):
    """What the terms need of a generator; the condition is passed on to it as it is."""

    def hidden(
        self, ids_BL: Tensor, condition: Any, *, masked: Tensor | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """[B, L, D]: entry i is what the head predicts token i from; it has seen tokens 0..i - 1.

        With `masked` bool [B, L] the inputs of those tokens are the embedding `mask` [D] instead, and every entry sees
        all other inputs, also later ones.
        """
        ...

    def logits_of(self, h_BnD: Tensor, places: Tensor | None = None) -> Tensor:
        """float32 [B, n, V] from hidden states.

        `places` int64 [n] or [B, n] says which tokens they are to predict, for models with several kinds of tokens;
        None = all, in the order of `hidden`.
        """
        ...


class Mixture(nn.Module):
    """The further terms, and the weights they learn: the `helpers` of an objective, left behind after training."""

    def __init__(self, config: MixtureConfig, *, length: int, width: int, state_width: int | None = None) -> None:
        """`width` is that of an embedded token, `state_width` that of a hidden state; None = the same."""
        super().__init__()
        self.config = config
        if config.masked:
            self.mask = nn.Parameter(torch.randn(width) * 0.02)
        if config.next_all:
            self.queries = nn.Parameter(torch.randn(length, state_width or width) * 0.02)

    def forward(
        self,
        model: Mixable,
        own: Tensor,
        hidden_BLD: Tensor,
        batch: tuple[Tensor, Any],
        step: int,
        rng: torch.Generator,
        *,
        places_BL: Tensor | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The total, and the further terms by name.

        `own` is the family's loss of `batch` (ids int64 [B, L], condition), `hidden_BLD` the states it came from.
        `places_BL` int64 is for images that have an order of their own: where each token stands, which chooses its
        query.
        """
        ids_BL, condition = batch
        config, total = self.config, self.config.next * own
        parts: dict[str, Tensor] = {}
        if config.masked:
            parts["masked"] = self.masked(model, ids_BL, condition, step, rng, places_BL)
            total = total + config.masked * parts["masked"]
        if config.next_all:
            parts["next_all"] = self.next_all(model, hidden_BLD, ids_BL, step, places_BL)
            total = total + config.next_all * parts["next_all"]
        return total, {name: part.detach() for name, part in parts.items()}

    def masked(
        self,
        model: Mixable,
        ids_BL: Tensor,
        condition: Any,
        step: int,
        rng: torch.Generator,
        places_BL: Tensor | None = None,
    ) -> Tensor:
        """Mean cross entropy of the hidden tokens."""
        hidden_Bn = self.hide(ids_BL, step, rng)
        masked_BL = torch.zeros_like(ids_BL, dtype=torch.bool).scatter(1, hidden_Bn, True)
        h_BLD = model.hidden(ids_BL, condition, masked=masked_BL, mask=self.mask)
        h_BnD = h_BLD.gather(1, hidden_Bn[..., None].expand(-1, -1, h_BLD.shape[-1]))
        places_Bn = hidden_Bn if places_BL is None else places_BL.gather(1, hidden_Bn)
        return _cross_entropy(model.logits_of(h_BnD, places_Bn), ids_BL.gather(1, hidden_Bn))

    def hide(self, ids_BL: Tensor, step: int, rng: torch.Generator) -> Tensor:
        """int64 [B, n]: numbers of the tokens to hide, as many in every image of a step."""
        (batch, length), (low, high) = ids_BL.shape, self.config.masked_share
        count = round((low + (high - low) * _spread(step, 0)) * length)
        order_BL = torch.rand(batch, length, generator=rng, device=rng.device).argsort(dim=1)
        return order_BL[:, : max(count, 1)].to(ids_BL.device)

    def next_all(
        self, model: Mixable, hidden_BLD: Tensor, ids_BL: Tensor, step: int, places_BL: Tensor | None = None
    ) -> Tensor:
        """Mean cross entropy of tokens k, k + 1, ... from the state that has seen those before k."""
        length = ids_BL.shape[1]
        k = int(_spread(step, 1) * length)
        places = torch.arange(k, length, device=ids_BL.device) if places_BL is None else places_BL[:, k:]
        h_BnD = hidden_BLD[:, k : k + 1] + self.queries[places].to(hidden_BLD.dtype)
        return _cross_entropy(model.logits_of(h_BnD, places), ids_BL[:, k:])


def mixture_of(config: MixtureConfig, *, length: int, width: int, state_width: int | None = None) -> Mixture | None:
    """The terms, or None where the family's own loss is all."""
    return Mixture(config, length=length, width=width, state_width=state_width) if config.active else None


def _cross_entropy(logits_BnV: Tensor, ids_Bn: Tensor) -> Tensor:
    return F.cross_entropy(logits_BnV.flatten(0, 1), ids_Bn.flatten())


def _spread(step: int, axis: int) -> float:
    """A number in [0, 1) by the step alone, so that all processes of a run agree and no step waits for the device.

    Multiples of the inverse powers of the plastic number: both axes together fill the unit square evenly.
    """
    return (0.5 + step * (0.7548776662466927, 0.5698402909980532)[axis]) % 1
