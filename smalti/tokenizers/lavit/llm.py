"""The ids and features that LaVIT's language model reads and writes; the language model itself is not part of this.

Shape suffixes: B batch, N patches, D width.
"""

from collections.abc import Sequence

import torch
from torch import Generator as RandomGenerator
from torch import Tensor

from smalti.tokenizers.lavit.model import LaVITTokenizer
from smalti.tokens import Tokens

IMAGE_START, IMAGE_END, FIRST_CODE = 32000, 32001, 32002
"""Words that LaVIT adds to the 32000 of LLaMA: start and end of an image, and its codes from here on."""


def llm_ids(tokens: Tokens, *, mark: bool = False) -> list[Tensor]:
    """The tokens of every image as words of the language model, int64 [n_i]; `mark` puts start and end around them."""
    assert tokens.ids is not None
    start, end = tokens.ids.new_tensor([IMAGE_START]), tokens.ids.new_tensor([IMAGE_END])
    words = [row[:n] + FIRST_CODE for row, n in zip(tokens.ids, tokens.lengths.tolist(), strict=True)]
    return [torch.cat([start, w, end]) for w in words] if mark else words


def tokens_of_llm_ids(tokenizer: LaVITTokenizer, words: Sequence[Tensor]) -> Tokens:
    """Inverse of `llm_ids` for what a language model wrote; words that are no codes, such as marks, are left out."""
    return tokenizer.padded([w[w >= FIRST_CODE] - FIRST_CODE for w in words])


@torch.no_grad()
def llm_features(tokenizer: LaVITTokenizer, images: Tensor, *, rng: RandomGenerator | None = None) -> list[Tensor]:
    """Merged features of the kept patches in the language model's width, [n_i, llm_width] per image, not quantized.

    Errors: ValueError for a tokenizer without that projection.
    """
    if not tokenizer.config.llm_width:
        raise ValueError("this tokenizer has no projection to a language model: its config needs llm_width (4096)")
    features_BND = tokenizer.features(images.to(tokenizer.device))
    keep_BN = tokenizer.select(features_BND, rng)
    merged_BND = tokenizer.merger(features_BND, keep_BN)
    return list(tokenizer.to_llm(merged_BND[keep_BN]).split(keep_BN.sum(dim=1).tolist()))
