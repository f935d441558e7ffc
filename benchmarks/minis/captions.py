"""Floor (d): is the nearest real emoji of a captioned sample the captioned one?

The captions are of drawings that were withheld from all training: the same code point was seen, by other artists.

Shape suffixes: N images, D features.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from benchmarks.minis.features import Features, Gallery
from benchmarks.minis.rows import Row, row
from smalti.data.bank import ImageBank
from smalti.data.tokens_bank import wordings
from smalti.eval.bootstrap import mean_interval
from smalti.pipeline import ImageGenerator

RATIO = 0.5


def spread(indices: Tensor, limit: int) -> Tensor:
    """At most `limit` of the indices, evenly spread."""
    return indices if len(indices) <= limit else indices[torch.arange(limit) * len(indices) // limit]


class Retrieval:
    """Real emoji to search among, by index of the bank."""

    def __init__(self, bank: ImageBank, members: Tensor, features: Features) -> None:
        self.bank, self.members = bank, members
        self.gallery = Gallery(features(bank.exact(members)))
        self.place = {index: i for i, index in enumerate(members.tolist())}
        self.codepoints = [bank.items[i].codepoint for i in members.tolist()]

    def hits(self, queries_ND: Tensor, codepoints: Sequence[str], leave_out: Sequence[int] | None = None) -> Tensor:
        """float [N]: 1 where the nearest image is of the code point; `leave_out`: bank index not to be found."""
        hidden = None if leave_out is None else torch.tensor([self.place[i] for i in leave_out])
        nearest, _ = self.gallery.nearest(queries_ND, leave_out=hidden)
        return torch.tensor([float(self.codepoints[i] == c) for i, c in zip(nearest.tolist(), codepoints, strict=True)])

    def others(self, index: int) -> list[int]:
        """Bank indices in the gallery of the same code point by other artists."""
        item = self.bank.items[index]
        same = [i for i in self.members.tolist() if self.bank.items[i].codepoint == item.codepoint]
        return [i for i in same if self.bank.items[i].artist != item.artist]

    def other_artists(self, indices: Sequence[int]) -> Tensor:
        """float [N]: share of the other artists' real drawings that find their code point, themselves left out."""
        queries = [(n, other) for n, index in enumerate(indices) for other in self.others(index)]
        places = torch.tensor([self.place[other] for _, other in queries])
        codepoints = [self.codepoints[p] for p in places.tolist()]
        found = self.hits(self.gallery.features_ND[places], codepoints, [other for _, other in queries])
        owner = torch.tensor([n for n, _ in queries])
        count = torch.zeros(len(indices)).index_add_(0, owner, torch.ones(len(queries)))
        return torch.zeros(len(indices)).index_add_(0, owner, found) / count.clamp_min(1)


def caption_rows(
    generator: ImageGenerator, bank: ImageBank, features: Features, *, limit: int, seed: int
) -> tuple[list[Row], dict[str, Tensor]]:
    """Rows for withheld (code point, artist) pairs (floor) and withheld code points (report), and their samples."""
    train = bank.indices("emoji", "train", role="generator")
    unseen = bank.indices("emoji", "unseen", role="generator")
    pairs = spread(bank.indices("emoji", "pair", role="generator"), limit)
    known = Retrieval(bank, train, features)
    rows, images = _rows("withheld artist", known, pairs, generator, features, seed, floor=True)
    everything = Retrieval(bank, torch.cat([train, unseen]), features)
    more, unseen_images = _rows("withheld code point", everything, unseen, generator, features, seed, floor=False)
    return rows + more, {"pair": images, "unseen": unseen_images}


def _rows(
    name: str,
    search: Retrieval,
    indices: Tensor,
    generator: ImageGenerator,
    features: Features,
    seed: int,
    *,
    floor: bool,
) -> tuple[list[Row], Tensor]:
    # A code point whose other drawings are not in the gallery cannot be found by anyone.
    kept = [i for i in indices.tolist() if search.others(i)]
    codepoints = [bank_item.codepoint for bank_item in (search.bank.items[i] for i in kept)]
    texts = [wordings(search.bank.items[i], 1, 0)[0] for i in kept]
    images = generator.generate(text=texts, seed=seed).images
    sampled = search.hits(features(images), codepoints)
    drawn = search.other_artists(kept)
    real = features(search.bank.exact(torch.tensor(kept)))
    own = search.hits(real, codepoints, kept if kept[0] in search.place else None)
    rows = [
        row("d", f"{name}: samples", mean_interval(sampled)),
        row("d", f"{name}: another artist's real drawing", mean_interval(drawn)),
        row("d", f"{name}: the withheld drawing itself", mean_interval(own)),
    ]
    gap = mean_interval(sampled - RATIO * drawn)
    bar = {"kind": "floor", "at_least": 0.0} if floor else {}
    note = f"ratio {sampled.mean() / drawn.mean().clamp_min(1e-9):.2f}"
    return [*rows, row("d", f"{name}: samples less {RATIO} x another artist's", gap, note=note, **bar)], images
