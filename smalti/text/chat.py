"""Texts as the ids of a chat: the turn of a user, then the opening of an image as the answer.

For generators that embed text themselves (Ming-UniVision, arXiv 2510.06590). Shape suffixes: B texts, T ids.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Chat:
    """The template around a text, and where its tokenizer is published."""

    repo: str = "inclusionAI/Ming-UniVision-16B-A3B"
    """Hub id, "owner/name"."""
    user: str = "<role>HUMAN</role>"
    """Stands before the text."""
    assistant: str = "<role>ASSISTANT</role>"
    """Stands behind it."""
    opening: str = "<image>"
    """One token that opens an image: the last of the prompt, and the first of an image inside it."""
    patch: str = "<imagePatch>"
    """One token that stands for each token of an image inside the prompt."""
    closing: str = "</image>"
    """One token behind such an image; a new line follows."""
    instruction: str = "Please generate the corresponding image based on the description. "
    """Stands before a text that comes without an image, as in the authors' examples."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ChatIds:
    """Prompts padded on the left; the last id of every row opens the image that is to be drawn."""

    ids: Tensor
    """int64 [B, T]."""
    mask: Tensor
    """bool [B, T]: False where padded."""
    template: Tensor
    """bool [B, T]: what is neither text nor image nor padding."""
    image: Tensor
    """bool [B, T]: an image inside the prompt, its opening and closing included."""
    patches: Tensor
    """bool [B, T]: the tokens of that image alone."""


class ChatText:
    """Texts to ids by a `tokenizer.json` of Hugging Face's tokenizers, read when it is first needed; no code is run."""

    width = 0
    """There are no features: the generator embeds ids."""

    def __init__(self, chat: Chat | None = None, *, source: str | Path | None = None) -> None:
        """`source`: a tokenizer.json, a folder that holds it, or a hub id; by default the chat's."""
        self.chat = chat or Chat()
        self.source = str(source) if source is not None else self.chat.repo

    def encode(self, texts: list[str]) -> tuple[Tensor, Tensor]:
        """Ids int64 [B, T] and mask bool [B, T]; "" gives the template alone.

        Errors: ValueError if the tokenizer cannot be had or lacks the template's tokens.
        """
        prompts = self.prompts(texts)
        return prompts.ids, prompts.mask

    def prompts(self, texts: Sequence[str], image_tokens: int = 0) -> ChatIds:
        """Prompts of texts, with room for an image of that many tokens before every text; errors as for `encode`."""
        if isinstance(texts, str):
            raise ValueError(f"texts is a list, one entry per image: [{texts!r}]")
        rows = [self._row(text, image_tokens) for text in texts]
        longest = max(map(len, rows), default=0)
        padded = [[(0, _PADDING)] * (longest - len(row)) + row for row in rows]
        table_BT2 = torch.tensor(padded, dtype=torch.int64).view(len(rows), longest, 2)
        ids_BT, kind_BT = table_BT2.unbind(-1)
        return ChatIds(
            ids=ids_BT,
            mask=kind_BT != _PADDING,
            template=kind_BT == _TEMPLATE,
            image=(kind_BT == _IMAGE) | (kind_BT == _PATCH),
            patches=kind_BT == _PATCH,
        )

    def _row(self, text: str, image_tokens: int) -> list[tuple[int, int]]:
        """(id, kind) of every token."""
        chat, image = self.chat, []
        if image_tokens:
            image = [(self._one(chat.opening), _IMAGE), *[(self._one(chat.patch), _PATCH)] * image_tokens]
            image += [(self._one(chat.closing), _IMAGE)]
        words = f"\n{text}" if image_tokens else chat.instruction + text if text else ""
        ending = [*self._ids(chat.assistant), self._one(chat.opening)]
        parts = [(self._ids(chat.user), _TEMPLATE), (self._ids(words), _WORDS), (ending, _TEMPLATE)]
        user, written, end = ([(number, kind) for number in ids] for ids, kind in parts)
        return [*user, *image, *written, *end]

    def _ids(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def _one(self, token: str) -> int:
        number = self._tokenizer.token_to_id(token)
        if number is None:
            raise ValueError(f"the tokenizer of {self.source} has no token {token!r}: it is not that of this chat")
        return number

    @property
    def fingerprint(self) -> str:
        """sha256 of tokenizer.json."""
        return hashlib.sha256(self._file.read_bytes()).hexdigest()

    @cached_property
    def _file(self) -> Path:
        path = Path(self.source).expanduser()
        if path.is_file():
            return path
        if path.is_dir():
            if not (path / _NAME).is_file():
                raise ValueError(f"the folder {path} has no {_NAME}")
            return path / _NAME
        from huggingface_hub import hf_hub_download

        try:
            return Path(hf_hub_download(self.source, _NAME))
        except Exception as error:  # network libraries differ between versions of the client
            raise ValueError(
                f"texts are read by {_NAME} of {self.source}, which could not be had: {str(error).strip()}. Give a "
                f"folder that holds it: smalti.load(NAME, text_encoder='/path/to/folder')"
            ) from error

    @cached_property
    def _tokenizer(self) -> Any:
        from tokenizers import Tokenizer

        try:
            return Tokenizer.from_file(str(self._file))
        except ValueError:
            raise
        except Exception as error:  # the library raises Exception itself
            raise ValueError(f"{self._file} is no tokenizer.json: {error}") from error


_NAME = "tokenizer.json"
_PADDING, _TEMPLATE, _WORDS, _IMAGE, _PATCH = range(5)
