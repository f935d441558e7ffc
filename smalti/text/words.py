"""The packaged text encoder: a table of word vectors, averaged. Works offline, costs microseconds.

Why a table of words and not a language model: captions here are a handful of words, and a table distilled from a
sentence model did as well as that model at the same width, though not at three times the width, in the proxy that the
table's model card reports.
"""

import json
import re
import unicodedata
import warnings
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from hashlib import sha256
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from smalti.files import read_tensors

TABLE = "table.safetensors"
VOCABULARY = "vocabulary.json"

_WORD = re.compile(r"[a-z]+|[0-9]+|[#*&!?]")
# Combining marks go, so that "piñata" is "pinata"; these letters do not decompose by themselves.
_LETTERS = str.maketrans({"ø": "o", "đ": "d", "ł": "l", "ß": "ss", "æ": "ae", "œ": "oe", "ı": "i", "ð": "d", "þ": "th"})


def split_words(text: str) -> list[str]:
    """Lower-case words, numbers and the signs `# * & ! ?` of a text; accents and other punctuation go.

    >>> split_words("Piñatas, keycap: # and the cat's 3D face")
    ['pinatas', 'keycap', '#', 'and', 'the', 'cat', '3', 'd', 'face']
    """
    decomposed = unicodedata.normalize("NFKD", text.lower().replace("\u2019", "'").translate(_LETTERS))
    plain = "".join(c for c in decomposed if not unicodedata.combining(c))
    return _WORD.findall(re.sub(r"'s\b", "", plain).replace("'", ""))


def singulars(word: str) -> list[str]:
    """What a word may be the plural of, most specific first.

    >>> singulars("cherries"), singulars("foxes"), singulars("glass")
    (['cherry', 'cherrie'], ['fox', 'foxe'], [])
    """
    if not word.endswith("s") or word.endswith("ss") or len(word) < 4:
        return []
    if word.endswith("ies"):
        return [word[:-3] + "y", word[:-1]]
    return [word[:-2], word[:-1]] if word.endswith(("ses", "xes", "zes", "ches", "shes", "oes")) else [word[:-1]]


class WordEncoder:
    """Text to one feature vector: the weighted mean of the vectors of its words, scaled to unit RMS.

    Word order does not count. Unknown words are tried as plurals, then dropped with a warning that names them.

    >>> from smalti.text import packaged
    >>> features, mask = packaged().encode(["red apple, noto style"])
    >>> tuple(features.shape), mask.tolist()
    ((1, 1, 128), [[True]])
    """

    def __init__(self, words: Sequence[str], vectors_VF: Tensor, weights_V: Tensor) -> None:
        """Words, their vectors float [V, F] and how much each counts in the mean, float [V] > 0."""
        if not len(words) == len(vectors_VF) == len(weights_V):
            raise ValueError(
                f"{len(words)} words, {len(vectors_VF)} vectors and {len(weights_V)} weights: must be equal"
            )
        self.index: Mapping[str, int] = {word: i for i, word in enumerate(words)}
        self.vectors_VF = vectors_VF.float()
        self.weights_V = weights_V.float()
        self.width = vectors_VF.shape[1]
        digest = sha256("\n".join(words).encode())
        for tensor in (self.vectors_VF, self.weights_V):
            digest.update(tensor.contiguous().numpy().tobytes())
        self.fingerprint = digest.hexdigest()

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read a folder written by `smalti.text.distill`: int8 vectors with a scale per word, weights, vocabulary."""
        for name in (TABLE, VOCABULARY):
            if not (folder / name).is_file():
                raise FileNotFoundError(
                    f"{folder} holds no {name}: not a word table. Make one with: python -m smalti.text.distill --help"
                )
        table, _ = read_tensors(folder / TABLE)
        words = json.loads((folder / VOCABULARY).read_text(encoding="utf-8"))
        return cls(words, table["codes"].float() * table["scales"].float()[:, None], table["weights"])

    def find(self, word: str) -> int | None:
        """Row of a word or of what it is the plural of; None if the table has neither."""
        return next((self.index[w] for w in (word, *singulars(word)) if w in self.index), None)

    def unknown(self, text: str) -> list[str]:
        """The words of a text that the table does not have."""
        return [word for word in split_words(text) if self.find(word) is None]

    def near(self, word: str, n: int = 3) -> list[str]:
        """Known words that are spelled alike."""
        return get_close_matches(word, self.index, n=n, cutoff=0.7)

    def encode(self, texts: list[str]) -> tuple[Tensor, Tensor]:
        """Features float32 [B, 1, F] with unit RMS, and mask bool [B, 1], all True.

        Errors: ValueError for an empty text, or one of which no word is known (names near words).
        """
        if isinstance(texts, str):
            raise ValueError(f"texts is a list, one entry per image: [{texts!r}]")
        rows = [self._rows(text) for text in texts]
        dropped = sorted({word for text in texts for word in self.unknown(text)})
        if dropped:
            hints = "; ".join(f"{w} (near: {', '.join(self.near(w)) or 'nothing'})" for w in dropped[:8])
            more = f" and {len(dropped) - 8} more" if len(dropped) > 8 else ""
            warnings.warn(f"the text encoder does not know and leaves out: {hints}{more}", stacklevel=2)
        pooled_BF = torch.stack([self._pool(row) for row in rows]) if rows else torch.zeros(0, self.width)
        return pooled_BF[:, None], torch.ones(len(texts), 1, dtype=torch.bool)

    def _rows(self, text: str) -> list[int]:
        words = split_words(text)
        if not words:
            raise ValueError(f"the text {text!r} has no words: describe the picture, such as 'red apple'")
        rows = [row for row in map(self.find, words) if row is not None]
        if not rows:
            near = sorted({w for word in words for w in self.near(word)})
            hint = f"; did you mean {', '.join(near)}?" if near else "; use plain English words, such as 'red apple'"
            raise ValueError(f"the text encoder knows no word of {text!r}{hint}")
        return rows

    def _pool(self, rows: list[int]) -> Tensor:
        weights_L1 = self.weights_V[rows][:, None]
        mean_F = (self.vectors_VF[rows] * weights_L1).sum(0) / weights_L1.sum()
        return mean_F / mean_F.square().mean().sqrt().clamp_min(1e-6)
