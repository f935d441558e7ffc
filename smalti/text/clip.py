"""CLIP's text tower (arXiv 2103.00020): a feature for every place of its context, as TA-TiTok's decoder reads them.

Shape suffixes: B texts, T places of the context, F features.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor


class CLIPText:
    """Texts to the last hidden states of a CLIP text model, after its final norm, padding included.

    Behind the end of a text stands token 0, which is how OpenAI's code and open_clip fill the context. transformers
    would fill it with the end token: those places would get other features, and TA-TiTok reads them too.
    """

    def __init__(self, model: Any, tokenizer: Any) -> None:
        """`model`: transformers' CLIPTextModel; `tokenizer`: its CLIPTokenizer."""
        self.model, self.tokenizer = model.eval().requires_grad_(False), tokenizer

    @classmethod
    def load(cls, name: str) -> "CLIPText":
        """The text half of a CLIP on the hub or on disk, e.g. "openai/clip-vit-large-patch14-336".

        Errors: ValueError if it cannot be had, with what to do.
        """
        from transformers import CLIPTextModel, CLIPTokenizer

        try:
            return cls(CLIPTextModel.from_pretrained(name), CLIPTokenizer.from_pretrained(name))
        except OSError as error:
            raise ValueError(
                f"the text features of {name} are needed and it could not be loaded ({error}): connect to the hub "
                "once, or make the features elsewhere and pass them"
            ) from error

    def tokens(self, texts: Sequence[str]) -> Tensor:
        """int64 [B, T]: start, the text (cut to fit), end, zeros."""
        length = self.model.config.max_position_embeddings
        ids = self.tokenizer(list(texts), truncation=True, max_length=length)["input_ids"]
        return torch.tensor([row + [0] * (length - len(row)) for row in ids])

    @torch.no_grad()
    def features(self, texts: Sequence[str]) -> Tensor:
        """float32 [B, T, F]."""
        return self.model(input_ids=self.tokens(texts).to(self.model.device)).last_hidden_state.float()


@cache
def clip_text(name: str) -> CLIPText:
    """A CLIP text tower, read once."""
    return CLIPText.load(name)
