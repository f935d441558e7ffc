"""TokenBank: the images of a bank as tokens of a frozen tokenizer, with what they are asked for by.

Like `ImageBank.batch`, a batch is a pure function of (seed, step, rank).

Shape suffixes: N images, A versions, B batch, L tokens, K wordings, F text features.
"""

import random
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from smalti.data.augment import mild
from smalti.data.bank import ImageBank, Item
from smalti.data.counter import generator_at, seed_of
from smalti.generators.base import Condition
from smalti.text.base import TextEncoder
from smalti.tokenizers.base import Tokenizer

STYLES = {"fluent3d": "fluent", "noto": "noto", "twemoji": "twemoji"}


@dataclass(frozen=True, kw_only=True)
class Mix:
    """How images are asked for."""

    none: float = 0.10
    """Share of sequences without condition."""
    by_class: float = 0.25
    """Share with a class only."""
    by_text: float = 0.40
    """Share with a caption only; the rest has both."""
    exact: float = 0.4
    """Share of sequences that come from images that were not augmented."""
    misnamed: float = 0.0
    """Share of captions that name another artist than the image's. What is asked for in a style it was never seen in
    is then drawn as somebody drew it, instead of as something else of that style."""


def class_names(items: Sequence[Item]) -> tuple[str, ...]:
    """All categories, then all subcategories, each in alphabetical order: one list of classes."""
    categories = sorted({x.category for x in items if x.source == "emoji"})
    return (*categories, *sorted({x.subcategory for x in items if x.source == "emoji"} - set(categories)))


def plain(caption: str) -> str:
    """A caption as one would type it: "flag: Fiji" -> "flag of Fiji", other colons dropped."""
    return re.sub(r"^flag: ", "flag of ", caption).replace(":", "")


def wordings(item: Item, count: int, seed: int) -> list[str]:
    """`count` ways to ask for an image; the first has caption and style, the second the caption alone."""
    rng = random.Random(seed_of(seed, item.caption, item.artist))
    name, style = plain(item.caption), STYLES.get(item.artist, item.artist)
    texts = [f"{name}, {style} style", name]
    while len(texts) < count:
        words = rng.sample(item.keywords, min(len(item.keywords), rng.randint(0, 3)))
        words = [w for w in words if w.lower() not in name.lower()]
        described = (
            rng.choice([name, name, f"a {name}"]) if words or rng.random() < 0.7 else rng.choice([f"a {name}", name])
        )
        patterns = ["{d} {w}", "{d}, {w}", "{d} {w}, {s} style", "{s} {d} {w}", "{d} {w} in {s} style", "{w} {d}"]
        text = rng.choice(patterns).format(d=described, w=" ".join(words), s=style)
        texts.append(re.sub(r"\s+,", ",", re.sub(r"\s+", " ", text)).strip(" ,"))
    return texts[:count]


class TokenBank:
    """Token ids int16 [A, N, L] on a device, with classes and text features."""

    def __init__(
        self,
        *,
        ids: Tensor,
        items: Sequence[Item],
        classes: Sequence[str],
        features: Tensor | None,
        understood: Tensor | None,
        mix: Mix = Mix(),
        seed: int = 0,
    ) -> None:
        """`features` float [N, K, F] and `understood` bool [N, K]: the wordings of every image, None without text.

        With `mix.misnamed`, wordings that name each other artist of the images come behind those that name its own.
        """
        self.ids, self.items, self.classes, self.mix, self.seed = ids, tuple(items), tuple(classes), mix, seed
        self.features, self.understood = features, understood
        self.artists = len({x.artist for x in items}) if mix.misnamed else 1
        number = {name: i for i, name in enumerate(self.classes)}
        pairs = [[number[x.category], number[x.subcategory]] for x in items]
        self.labels = torch.tensor(pairs).to(ids.device)
        splits = {"train": "train", "pair": "pair", "unseen": "unseen"}
        self.of = {
            k: torch.tensor([i for i, x in enumerate(items) if x.split_generator == v]).long()
            for k, v in splits.items()
        }
        counts = Counter(items[i].subcategory for i in self.of["train"].tolist())
        self.weights = torch.tensor([counts[items[i].subcategory] ** -0.5 for i in self.of["train"].tolist()])

    @classmethod
    def build(
        cls,
        ids: Tensor,
        bank: ImageBank,
        *,
        encoder: TextEncoder | None,
        captions: int = 6,
        mix: Mix = Mix(),
        seed: int = 0,
    ) -> "TokenBank":
        """From what `encode_bank` made of the same bank; all wordings pass through the text encoder once."""
        items = [bank.items[i] for i in emoji_of(bank).tolist()]
        features, known = None, None
        if encoder is not None:
            artists = sorted({item.artist for item in items}) if mix.misnamed else []
            named = [[item, *(replace(item, artist=a) for a in artists if a != item.artist)] for item in items]
            made = encode_texts(encoder, [[t for x in row for t in wordings(x, captions, seed)] for row in named])
            features, known = (t.to(bank.device) for t in made)
        classes = class_names(items)
        return cls(ids=ids, items=items, classes=classes, features=features, understood=known, mix=mix, seed=seed)

    def batch(self, step: int, size: int, rank: int = 0) -> tuple[Tensor, Condition]:
        """(ids int64 [B, L], condition): a pure function of (seed, step, rank)."""
        rng = generator_at(self.seed, "tokens", step, rank)
        chosen = self.of["train"][torch.multinomial(self.weights, size, replacement=True, generator=rng)]
        draws_B4 = torch.rand(size, 4, generator=rng)
        versions = (draws_B4[:, 0] * (len(self.ids) - 1)).long() + 1 if len(self.ids) > 1 else torch.zeros(size).long()
        versions = torch.where(draws_B4[:, 1] < self.mix.exact, 0, versions)
        ids = self.ids[versions.to(self.ids.device), chosen.to(self.ids.device)].long()
        other = torch.zeros(size, dtype=torch.int64)
        if self.artists > 1:
            draws_B2 = torch.rand(size, 2, generator=rng)
            other = 1 + (draws_B2[:, 1] * (self.artists - 1)).long()
            other = torch.where(draws_B2[:, 0] < self.mix.misnamed, other, 0)
        kind, pick = draws_B4[:, 2], (draws_B4[:, 3] * 1000).long()
        mix = self.mix
        with_class = ((kind >= mix.none) & (kind < mix.none + mix.by_class)) | (
            kind >= mix.none + mix.by_class + mix.by_text
        )
        with_text = kind >= mix.none + mix.by_class
        return ids, self._condition(chosen, pick, with_class, with_text, other)

    def _condition(
        self, chosen: Tensor, pick: Tensor, with_class: Tensor, with_text: Tensor, other: Tensor
    ) -> Condition:
        """Even picks ask for the category, odd ones for the subcategory; the pick also chooses the wording.

        `other`: 0 names the image's artist, 1, 2 ... another one.
        """
        device = self.ids.device
        drawn = (chosen, pick, with_class, with_text, other)
        chosen, pick, with_class, with_text, other = (t.to(device) for t in drawn)
        classes = torch.where(with_class, self.labels[chosen, pick % 2], -1)
        if self.features is None or self.understood is None:
            return Condition(classes=classes)
        each = self.features.shape[1] // self.artists
        wording = other * each + pick // 2 % each
        mask = (self.understood[chosen, wording] & with_text)[:, None]
        return Condition(classes=classes, text=self.features[chosen, wording][:, None].float(), text_mask=mask)

    def heldout(self, split: str, size: int, limit: int = 512) -> Iterator[tuple[Tensor, Condition]]:
        """Exact images of a split with subcategory, caption and style: `limit` at most, evenly spread."""
        indices = self.of[split]
        if len(indices) > limit:
            indices = indices[torch.arange(limit) * len(indices) // limit]
        for start in range(0, len(indices), size):
            part = indices[start : start + size]
            yes, first = torch.ones(len(part), dtype=torch.bool), torch.zeros(len(part), dtype=torch.int64)
            ids = self.ids[0, part.to(self.ids.device)].long()
            condition = self._condition(part, first, yes, yes, first)
            classes = self.labels[part.to(self.ids.device), 1]
            yield ids, Condition(classes=classes, text=condition.text, text_mask=condition.text_mask)


def emoji_of(bank: ImageBank) -> Tensor:
    """int64 [N]: the images of a bank that a generator may learn or be tested on."""
    return torch.tensor([i for i, item in enumerate(bank.items) if item.source == "emoji"])


@torch.no_grad()
def encode_bank(
    tokenizer: Tokenizer,
    bank: ImageBank,
    *,
    versions: int,
    seed: int = 0,
    batch: int = 64,
    rank: int = 0,
    processes: int = 1,
) -> Tensor:
    """int16 [1 + versions, N, L]: ids of the exact emoji, then of mildly augmented ones.

    Process `rank` encodes its share of the batches; all of them get the whole.
    """
    keep, length = emoji_of(bank), tokenizer.layout().length
    vocab = max(segment.vocab or 0 for segment in tokenizer.layout().segments)
    assert 0 < vocab <= 2**15, f"ids of {vocab} codes do not fit 16 bits"
    ids = torch.zeros(versions + 1, len(keep), length, dtype=torch.int32, device=bank.device)
    jobs = [(version, start) for version in range(versions + 1) for start in range(0, len(keep), batch)]
    for version, start in jobs[rank::processes]:
        chosen = keep[start : start + batch]
        if version == 0:
            images = bank.exact(chosen)
        else:
            rng = generator_at(seed, "version", version, start)
            images = mild(bank.images[chosen.to(bank.device)], bank.size, rng)
        made = tokenizer.encode(images).ids
        assert made is not None, "a generator's token bank needs a tokenizer with ids"
        ids[version, start : start + batch] = made.to(torch.int32)
    if processes > 1:
        torch.distributed.all_reduce(ids)
    return ids.to(torch.int16)


def encode_texts(encoder: TextEncoder, texts: Sequence[Sequence[str]]) -> tuple[Tensor, Tensor]:
    """float [N, K, F] and bool [N, K], False where nothing of a wording is understood."""
    flat = [text for row in texts for text in row]
    features, known = [], []
    for start in range(0, len(flat), 512):
        part = flat[start : start + 512]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # words the encoder leaves out: hundreds among keywords
            try:
                made, mask = encoder.encode(part)
            except ValueError:
                made, mask = _one_by_one(encoder, part)
        features.append(_pooled(made, mask))
        known.append(mask.any(1))
    shape = (len(texts), len(texts[0]))
    return torch.cat(features).unflatten(0, shape), torch.cat(known).unflatten(0, shape)


def _one_by_one(encoder: TextEncoder, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
    rows: list[Any] = []
    for text in texts:
        try:
            rows.append(_pooled(*encoder.encode([text])))
        except ValueError:
            rows.append(None)
    known = torch.tensor([row is not None for row in rows])[:, None]
    empty = torch.zeros(1, encoder.width)
    return torch.stack([empty[0] if row is None else row[0] for row in rows])[:, None], known


def _pooled(features_BTF: Tensor, mask_BT: Tensor) -> Tensor:
    """[B, F]: mean of the features that count."""
    weights = mask_BT[..., None].to(features_BTF.dtype)
    return (features_BTF * weights).sum(1) / weights.sum(1).clamp_min(1)
