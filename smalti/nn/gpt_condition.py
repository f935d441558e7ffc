"""What stands before the image tokens in LlamaGen's GPT (arXiv 2406.06525) and in the models built on it (NAR, Hita,
DetailFlow): one token for the class, or one for every feature of a caption.

Shape suffixes: R rows (branches x batch), B batch, T condition tokens, L all tokens, D width, F text features.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True, eq=False)
class Prefix:
    """The condition tokens of all rows."""

    tokens_RTD: Tensor
    seen_RT: Tensor | None = None
    """bool, False for padding, which no other token sees; None = there is none."""

    def hide_padding(self, mask_LL: Tensor) -> Tensor:
        """bool [R, 1, L, L]: an attention mask without the columns of padding, for a pass over the whole sequence.

        Every token sees itself: a row of padding would have nothing to look at otherwise. [L, L] if nothing is hidden.
        """
        if self.seen_RT is None:
            return mask_LL
        rows, count = self.seen_RT.shape
        mask_RLL = mask_LL.expand(rows, -1, -1).clone()
        mask_RLL[:, :, :count] &= self.seen_RT[:, None]
        mask_RLL.diagonal(dim1=1, dim2=2).fill_(True)
        return mask_RLL[:, None]

    def bias(self, length: int) -> Tensor | None:
        """[R, 1, 1, length]: what is added to the attention logits of image tokens, -inf for padding; made once and cut
        to the tokens so far at every step. None if nothing is hidden.
        """
        if self.seen_RT is None:
            return None
        rows, count = self.seen_RT.shape
        bias_RL = self.tokens_RTD.new_zeros(rows, length)
        bias_RL[:, :count].masked_fill_(~self.seen_RT, -torch.inf)
        return bias_RL[:, None, None]


class ClassToken(nn.Module):
    """A learned vector per class, and one more for no class."""

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        self.classes = classes
        self.embedding = nn.Embedding(classes + 1, width)

    def forward(
        self,
        classes_B: Tensor,
        text_BTF: Tensor | None = None,
        mask_BT: Tensor | None = None,
        *,
        branches: Sequence[str] = ("cond",),
        trim: bool = False,
    ) -> Prefix:
        """One token for every row; class -1 is none. Text is not looked at, and there is nothing to trim."""
        classes_B = torch.where(classes_B < 0, self.classes, classes_B)
        null_B = torch.full_like(classes_B, self.classes)
        return Prefix(self.embedding(torch.cat([classes_B if b == "cond" else null_B for b in branches]))[:, None])


class CaptionTokens(nn.Module):
    """Text features through two layers; "no caption" is a set of fixed random features, drawn once, never trained."""

    null: Tensor

    def __init__(self, features: int, width: int, tokens: int = 120) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(features, width, bias=False), nn.Linear(width, width, bias=False)
        self.register_buffer("null", torch.empty(tokens, features))
        nn.init.normal_(self.null, std=features**-0.5)

    def forward(
        self,
        classes_B: Tensor,
        text_BTF: Tensor | None = None,
        mask_BT: Tensor | None = None,
        *,
        branches: Sequence[str] = ("cond",),
        trim: bool = False,
    ) -> Prefix:
        """T tokens for every row; the null branch sees as many of them as the caption it stands against.

        An image without a caption (its mask is empty) has "no caption" in all branches and sees all of it. `trim`
        leaves out leading tokens that are padding in every row: condition tokens have no place, so nothing changes.
        """
        rows = len(classes_B)
        if text_BTF is None or mask_BT is None:
            seen_BT = classes_B.new_ones(rows, len(self.null), dtype=torch.bool)
            return Prefix(self._project(self.null).repeat(rows * len(branches), 1, 1), seen_BT.repeat(len(branches), 1))
        empty_B11 = ~mask_BT.any(1)[:, None, None]
        seen_BT = mask_BT | empty_B11[..., 0]
        first = int(seen_BT.any(0).to(torch.uint8).argmax()) if trim else 0
        text_BTF, seen_BT = text_BTF[:, first:].to(self.null.dtype), seen_BT[:, first:]
        null_TF = self.null[first:]
        cond_BTD = self._project(torch.where(empty_B11, null_TF, text_BTF))
        null_BTD = self._project(null_TF).expand(rows, -1, -1) if len(branches) > 1 else cond_BTD
        tokens_RTD = torch.cat([cond_BTD if b == "cond" else null_BTD for b in branches])
        return Prefix(tokens_RTD, seen_BT.repeat(len(branches), 1))

    def _project(self, text: Tensor) -> Tensor:
        return self.down(F.gelu(self.up(text), approximate="tanh"))

    def drop(self, text_BTF: Tensor, drop_B: Tensor) -> Tensor:
        """The features with those of some images replaced by "no caption"; in training their masks stay."""
        return torch.where(drop_B[:, None, None], self.null.to(text_BTF.dtype), text_BTF)

    def check(self, text_BTF: Tensor, mask_BT: Tensor) -> None:
        """A ValueError for features of another number of tokens, or padded on the right."""
        if text_BTF.shape[1] != len(self.null):
            raise ValueError(
                f"this model takes captions of {len(self.null)} tokens, padding included, got {text_BTF.shape[1]}"
            )
        if not bool((mask_BT[:, -1] | ~mask_BT.any(1)).all()):
            raise ValueError(
                "this model takes captions padded on the left: the last token must count, and the text mask says that "
                "it does not. smalti.text.t5.T5Text makes such features"
            )


CLASS_KEYS: dict[str, str | None] = {"cls_embedding.embedding_table.weight": "condition.embedding.weight"}
CAPTION_KEYS: dict[str, str | None] = {
    "cls_embedding.cap_proj.fc1.weight": "condition.up.weight",
    "cls_embedding.cap_proj.fc2.weight": "condition.down.weight",
    "cls_embedding.uncond_embedding": "condition.null",
}
"""Names in the authors' files -> ours, where the module is called `condition`."""
