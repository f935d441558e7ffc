"""Self-correction: the encoder goes on from a wrong token. DetailFlow, arXiv 2505.21473, section 3.3.

Shape suffixes: B batch, C code width, N tokens, n wrong tokens, V codes, r ranks.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from smalti.tokenizers.detailflow.config import DetailFlowTokenizerConfig
from smalti.tokenizers.detailflow.model import DetailFlowTokenizer

CANDIDATES = 50
"""A wrong token is one of so many codes nearest to the feature."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Encoded:
    """One pass of the encoder."""

    features: Tensor
    """[B, N, C]: features as they are compared with codes."""
    ids: Tensor
    """int64 [B, N]: the nearest codes."""
    codes: Tensor
    """[B, N, C]: those codes."""

    def straight_through(self) -> Tensor:
        """The codes, with the gradient of the features."""
        return self.features + (self.codes - self.features).detach()


@dataclass(frozen=True, kw_only=True, eq=False)
class Corrected:
    """What becomes of a sequence with wrong tokens in positions `start` to `end` - 1."""

    start: int
    end: int
    clean: Encoded
    """The first pass."""
    again: Encoded
    """The second pass, which was given the tokens before `end`; only what follows them counts."""
    wrong_ids: Tensor
    """int64 [B, n]: the wrong tokens."""
    wrong_codes: Tensor
    """[B, n, C]: their codes."""

    def codes(self) -> Tensor:
        """[B, N, C]: clean tokens, wrong ones (neither with a gradient), corrected ones."""
        known = torch.cat([self.clean.codes[:, : self.start], self.wrong_codes], dim=1)
        return torch.cat([known.detach(), self.again.straight_through()[:, self.end :]], dim=1)

    def inputs(self) -> Tensor:
        """int64 [B, N]: what a generator is fed that learns to correct: the tokens of `codes`."""
        return torch.cat([self.clean.ids[:, : self.start], self.wrong_ids, self.again.ids[:, self.end :]], dim=1)

    def targets(self) -> Tensor:
        """int64 [B, N]: what it is to predict: the right tokens, then the corrected ones."""
        return torch.cat([self.clean.ids[:, : self.end], self.again.ids[:, self.end :]], dim=1)


def wrong_count(start: int, config: DetailFlowTokenizerConfig) -> int:
    """How many tokens are wrong from `start` on: one inside the head, a group behind it."""
    return 1 if start < config.head_length else config.group


def encode(model: DetailFlowTokenizer, images: Tensor, count: int, given: Tensor | None = None) -> Encoded:
    """Tokens with gradients, of images in [0, 1]; codes [B, m, C] in `given` replace the first queries."""
    features, quantizer = model.features(images, count, given), model.quantizer
    with torch.autocast(images.device.type, enabled=False):
        ids = quantizer.nearest(features)
        return Encoded(features=quantizer.unit(features), ids=ids, codes=quantizer.codes_of(ids))


def self_correct(model: DetailFlowTokenizer, clean: Encoded, images: Tensor, start: int, ranks_BN: Tensor) -> Corrected:
    """Replaces the token or group at `start` by wrong codes, and encodes what follows anew.

    `ranks_BN` int64: which of the codes nearest to the feature is taken, 0 = the nearest; below `CANDIDATES`.
    """
    end = start + wrong_count(start, model.config)
    quantizer = model.quantizer
    with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
        codes_VC = quantizer.unit(quantizer.codebook)
        distances_BnV = codes_VC.square().sum(-1) - 2 * clean.features[:, start:end] @ codes_VC.T
        nearest_Bnr = distances_BnV.topk(min(CANDIDATES, len(codes_VC)), largest=False).indices
        wrong_ids = nearest_Bnr.gather(-1, ranks_BN[:, start:end, None])[..., 0]
        wrong_codes = quantizer.codes_of(wrong_ids)
        given = torch.cat([clean.codes[:, :start], wrong_codes], dim=1)
    again = encode(model, images, clean.ids.shape[1], given)
    return Corrected(start=start, end=end, clean=clean, again=again, wrong_ids=wrong_ids, wrong_codes=wrong_codes)
