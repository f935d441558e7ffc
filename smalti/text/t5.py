"""T5's encoder (arXiv 1910.10683) as a text encoder: one feature for every token of a caption.

Shape suffixes: B texts, T tokens, F features.
"""

import hashlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from smalti.text.captions import clean_caption

_BATCH = 32  # texts in one pass


@dataclass(frozen=True, kw_only=True)
class T5:
    """The T5 a model was trained with, and how the features were laid out."""

    repo: str = "google/flan-t5-xl"
    """Hub id, "owner/name"."""
    clean: bool = True
    """Texts are cleaned as captions from the web are: `smalti.text.captions`."""
    left_padded: bool = True
    """Padding stands before the features, and is zero; else behind them."""
    length: int = 120
    """Tokens of every text, padding and end sign included; what is longer is cut."""
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    """What it computes in."""

    def __post_init__(self) -> None:
        if self.length < 1:
            raise ValueError(f"a T5 needs a length of at least 1 token, got {self.length}")
        if self.dtype not in ("float32", "bfloat16"):
            raise ValueError(f"T5 computes in float32 or bfloat16, got {self.dtype!r}")


class T5Text:
    """Text to the last hidden states of a T5 encoder, which is read when it is first needed."""

    def __init__(
        self, settings: T5 | None = None, *, source: str | Path | None = None, device: torch.device | str = "cpu"
    ) -> None:
        """`source` is where it is: a folder with the model and its tokenizer, or a hub id, by default the settings'."""
        self.settings = settings or T5()
        self.source = str(Path(source).expanduser()) if isinstance(source, Path) else source or self.settings.repo
        self.device = torch.device(device)

    def to(self, device: torch.device | str) -> "T5Text":
        """Computes on another device from now on; returns self."""
        self.device = torch.device(device)
        if "_model" in self.__dict__:
            self._model.to(self.device)
        return self

    def encode(self, texts: list[str]) -> tuple[Tensor, Tensor]:
        """Features float32 [B, T, F] and mask bool [B, T].

        Errors: ValueError for a text of which cleaning leaves nothing, or if the encoder cannot be had; ImportError
        naming what to install. Warns of a text that is cut.
        """
        if isinstance(texts, str):
            raise ValueError(f"texts is a list, one entry per image: [{texts!r}]")
        if self.settings.clean:
            texts = [_cleaned(text) for text in texts]
        parts = [self._features(texts[i : i + _BATCH]) for i in range(0, len(texts), _BATCH)]
        if not parts:
            return torch.zeros(0, self.settings.length, self.width), torch.zeros(0, self.settings.length).bool()
        features_BTF, mask_BT = (torch.cat(part) for part in zip(*parts, strict=True))
        return left_padded(features_BTF, mask_BT) if self.settings.left_padded else (features_BTF, mask_BT)

    @torch.no_grad()
    def _features(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Padded on the right with zeros. Only as many places are computed as the longest text has."""
        length = self.settings.length
        ids = [self._tokenizer(text, truncation=True, max_length=length)["input_ids"] for text in texts]
        whole = [len(self._tokenizer(text)["input_ids"]) for text in texts]
        for text, count in zip(texts, whole, strict=True):
            if count > length:
                warnings.warn(f"a text of {count} tokens is cut to {length}: {text[:60]!r}...", stacklevel=3)
        longest = max(map(len, ids))
        ids_BT = torch.tensor([row + [0] * (longest - len(row)) for row in ids], device=self.device)
        mask_BT = torch.tensor([[i < len(row) for i in range(longest)] for row in ids], device=self.device)
        features_BTF = self._model(input_ids=ids_BT, attention_mask=mask_BT.long()).last_hidden_state.float()
        features_BTF = features_BTF.masked_fill(~mask_BT[..., None], 0)
        room = length - longest
        return F.pad(features_BTF, (0, 0, 0, room)), F.pad(mask_BT, (0, room))

    @property
    def width(self) -> int:
        """Number of features F."""
        return self._config.d_model

    @property
    def fingerprint(self) -> str:
        """sha256 over the weights as they are computed with; reads all of them."""
        return self._digest

    @cached_property
    def _digest(self) -> str:
        digest = hashlib.sha256()
        for name, value in sorted(self._model.state_dict().items()):
            digest.update(f"{name} {value.dtype} {list(value.shape)}".encode())
            digest.update(value.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()

    @cached_property
    def _config(self) -> Any:
        from transformers import T5Config

        return self._loaded(T5Config)

    @cached_property
    def _tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        size = self._config.vocab_size  # first, so that a hub out of reach is noticed with the smallest file
        tokenizer = self._loaded(AutoTokenizer)
        if len(tokenizer) < size // 2:  # transformers makes an empty one where there are no files of it
            reason = f"its tokenizer (tokenizer.json or spiece.model) has {len(tokenizer)} tokens, the model {size}."
            raise ValueError(self._missing(reason))
        return tokenizer

    @cached_property
    def _model(self) -> Any:
        from transformers import T5EncoderModel

        assert self._config
        model = self._loaded(T5EncoderModel, dtype=getattr(torch, self.settings.dtype))
        return model.eval().requires_grad_(False).to(self.device)

    def _loaded(self, kind: Any, **options: Any) -> Any:
        try:
            return kind.from_pretrained(self.source, **options)
        except (ImportError, OSError, ValueError) as error:
            if kind.__name__ == "AutoTokenizer" and not _reads_sentencepiece():
                raise ImportError(
                    f'the tokenizer of {self.source} may need sentencepiece and protobuf: pip install "smalti[text]"'
                ) from error
            raise ValueError(self._missing(str(error).strip().split("\n")[0])) from error

    def _missing(self, reason: str) -> str:
        what = "a T5 (config.json, weights, tokenizer)"
        if Path(self.source).is_dir():
            return f"the folder {self.source} does not hold {what}: {reason}"
        where = "" if self.source == self.settings.repo else f" ({self.settings.repo})"
        return (
            f"texts are read by the T5 encoder {self.source}{where}, which could not be loaded: {reason} Connect to "
            f"the hub once, or give a folder that holds {what}: smalti.load(NAME, text_encoder='/path/to/folder')"
        )


def _reads_sentencepiece() -> bool:
    """T5's own tokenizer file, spiece.model, is read with these; many folders hold a tokenizer.json too."""
    try:
        import google.protobuf
        import sentencepiece  # noqa: F401
    except ImportError:
        return False
    return bool(google.protobuf.__version__)


def _cleaned(text: str) -> str:
    """Twice, as the captions of the training were."""
    clean = clean_caption(clean_caption(text))
    if not clean:
        raise ValueError(f"cleaning leaves nothing of the text {text!r}: describe the picture in plain words")
    return clean


def left_padded(features_BTF: Tensor, mask_BT: Tensor) -> tuple[Tensor, Tensor]:
    """Features padded on the right and their mask -> the same padded on the left, zero where the mask is False."""
    length = mask_BT.shape[1]
    places_BT = (torch.arange(length, device=mask_BT.device) + mask_BT.sum(1, keepdim=True)) % length
    moved_BTF = features_BTF.gather(1, places_BT[..., None].expand_as(features_BTF))
    mask_BT = mask_BT.flip(1)
    return moved_BTF * mask_BT[..., None], mask_BT
