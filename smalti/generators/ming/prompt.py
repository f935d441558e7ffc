"""The prompt of Ming-UniVision: text ids, images inside it, and how much of it every branch of guidance sees.

Shape suffixes: B batch, T ids of the prompt, D width of a semantic feature.
"""

from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from smalti.generators.base import Condition
from smalti.text.chat import ChatIds


@dataclass(frozen=True, kw_only=True, eq=False)
class Prompt(Condition):
    """A condition whose `text` are ids int64 [B, T], padded on the left; the last of every row opens the image.

    The branches of guidance read one pass over the prompt; they differ in which of its ids the drawn tokens see.
    """

    null_mask: Tensor | None = None
    """bool [B, T]: what the branch "null" sees; None = the last id alone."""
    text_null_mask: Tensor | None = None
    """bool [B, T]: what the branch "text_null" sees, the images without the words; None = the same as "null"."""
    features: Tensor | None = None
    """float [B, T, D]: semantic features of the images in the prompt, at the places of their ids; 0 elsewhere."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.text is None:
            return
        for name in _ALONG_TEXT:
            value = getattr(self, name)
            if value is not None and value.shape[:2] != self.text.shape:
                raise ValueError(
                    f"{name} must be [batch, ids] as the prompt, {list(self.text.shape)}, got {list(value.shape)}"
                )

    def __getitem__(self, rows: slice) -> Self:
        """The prompts of some images of the batch."""
        values = {name: getattr(self, name) for name in ("classes", "text", *_ALONG_TEXT)}
        return replace(self, **{name: value[rows] for name, value in values.items() if value is not None})

    def null(self) -> Self:
        """The same batch, of which only what the branch "null" sees counts."""
        return replace(self, text_mask=self.seen("null"))

    def seen(self, branch: str) -> Tensor:
        """bool [B, T]: the ids that drawn tokens see in a branch; always the last one."""
        assert self.text is not None and self.text_mask is not None
        chosen = {"cond": self.text_mask, "null": self.null_mask, "text_null": self.text_null_mask}[branch]
        if chosen is None and branch == "text_null":
            return self.seen("null")
        seen = self.text_mask & chosen if chosen is not None else torch.zeros_like(self.text_mask)
        last = torch.arange(seen.shape[1], device=seen.device) == seen.shape[1] - 1
        return seen | last

    @classmethod
    def of(cls, condition: Condition) -> "Prompt":
        """A prompt as it is; any other condition with ids as text: its null branch sees what the empty text shares.

        That is the beginning and the end of the prompt, which the template puts around every text.
        """
        if isinstance(condition, Prompt):
            return condition
        text, mask = condition.text, condition.text_mask
        assert text is not None and mask is not None
        null = None
        if condition.empty_text is not None and condition.empty_mask is not None:
            null = _shared(text, mask, condition.empty_text[condition.empty_mask])
        return cls(classes=condition.classes, text=text, text_mask=mask, null_mask=null)

    @classmethod
    def of_chat(cls, chat: ChatIds, features: Tensor | None = None) -> "Prompt":
        """The prompts of a chat; `features` float [B, n, D] are the semantic features of the images inside them.

        The null branch sees the template, the third one the images, too. Errors: ValueError for features of another
        batch or number of tokens than the chat has room for.
        """
        classes = torch.full((len(chat.ids),), -1)
        prompt = cls(classes=classes, text=chat.ids, text_mask=chat.mask, null_mask=chat.template)
        if features is None:
            return prompt
        counts = set(chat.patches.sum(dim=1).tolist())
        if features.ndim != 3 or len(features) != len(chat.ids) or counts != {features.shape[1]}:
            raise ValueError(
                f"features must be [{len(chat.ids)}, {max(counts, default=0)}, width] for the images of these prompts, "
                f"got {list(features.shape)}"
            )
        placed_BTD = features.new_zeros(*chat.ids.shape, features.shape[2])
        placed_BTD[chat.patches.to(features.device)] = features.flatten(0, 1)
        return replace(prompt, text_null_mask=chat.template | chat.image, features=placed_BTD)


_ALONG_TEXT = ("text_mask", "null_mask", "text_null_mask", "features")


def _shared(text_BT: Tensor, mask_BT: Tensor, empty_n: Tensor) -> Tensor:
    """bool [B, T]: the common beginning with the empty prompt, and as many ids at the end as that has left."""
    length, count = text_BT.shape[1], len(empty_n)
    start_B1 = length - mask_BT.sum(dim=1, keepdim=True)
    heads = (start_B1 + torch.arange(count, device=text_BT.device)).clamp_max(length - 1)
    common_B1 = (text_BT.gather(1, heads) == empty_n).long().cumprod(dim=1).sum(dim=1, keepdim=True)
    places = torch.arange(length, device=text_BT.device)
    beginning = (places >= start_B1) & (places < start_B1 + common_B1)
    return beginning | (places >= length - (count - common_B1))
