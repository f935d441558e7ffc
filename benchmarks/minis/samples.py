"""Floor (c): do class-conditioned samples show the class? Also drafter + refiner next to the generator alone.

Shape suffixes: N images.
"""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import median

import torch
from torch import Tensor

from benchmarks.minis.classifier import Judge
from benchmarks.minis.features import Features
from benchmarks.minis.rows import Row, row
from smalti.data.bank import ImageBank
from smalti.eval.bootstrap import mean_interval
from smalti.pipeline import ImageGenerator
from smalti.tokenizers.base import Tokenizer

RATIO = 0.85
TIMES_CHANCE = 5.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Labels:
    """Names of categories and subcategories, and those of every emoji of a bank."""

    categories: tuple[str, ...]
    subcategories: tuple[str, ...]
    bank: ImageBank

    @classmethod
    def of(cls, bank: ImageBank) -> "Labels":
        """From the emoji of a bank, each list in alphabetical order."""
        emoji = [x for x in bank.items if x.source == "emoji"]
        return cls(
            categories=tuple(sorted({x.category for x in emoji})),
            subcategories=tuple(sorted({x.subcategory for x in emoji})),
            bank=bank,
        )

    def labels(self, indices: Tensor) -> Tensor:
        """(category, subcategory) int64 [N, 2] of images of the bank."""
        items = [self.bank.items[i] for i in indices.tolist()]
        pairs = [[self.categories.index(x.category), self.subcategories.index(x.subcategory)] for x in items]
        return torch.tensor(pairs)

    def natural(self, count: int) -> list[str]:
        """`count` categories in the mix of the training emoji, by largest remainder."""
        mix = Counter(x.category for x in self.bank.items if x.source == "emoji" and x.split_generator == "train")
        return shares(mix, count)


def shares(mix: Counter[str], count: int) -> list[str]:
    """Names in proportion to a count, `count` in all, by largest remainder.

    >>> shares(Counter(a=3, b=1), 6)
    ['a', 'a', 'a', 'a', 'b', 'b']
    """
    exact = {name: count * number / mix.total() for name, number in sorted(mix.items())}
    whole = {name: int(share) for name, share in exact.items()}
    order = sorted(exact, key=lambda name: (whole[name] - exact[name], -mix[name]))
    for name in order[: count - sum(whole.values())]:
        whole[name] += 1
    return [name for name, number in whole.items() for _ in range(number)]


@dataclass(frozen=True, kw_only=True, eq=False)
class Jury:
    """Judges, their features, and the names they use."""

    judges: Sequence[Judge]
    features: Features
    labels: Labels

    def category_hits(self, images: Tensor, asked: Sequence[str] | Tensor) -> Tensor:
        """float [N]: share of the judges that see the asked category."""
        return self._hits(images, _numbers(asked, self.labels.categories), 0)

    def subcategory_hits(self, images: Tensor, asked: Sequence[str] | Tensor) -> Tensor:
        """float [N]: share of the judges that see the asked subcategory."""
        return self._hits(images, _numbers(asked, self.labels.subcategories), 1)

    def _hits(self, images: Tensor, wanted_N: Tensor, level: int) -> Tensor:
        features_ND = self.features(images)
        return torch.stack([(judge.top1(features_ND)[level] == wanted_N).float() for judge in self.judges]).mean(0)


def ceilings(jury: Jury, tokenizer: Tokenizer, indices: Tensor) -> tuple[list[Row], float]:
    """The judge on held-out originals and their reconstructions; the accuracy on these is what samples are held to."""
    images = jury.labels.bank.exact(indices)
    labels = jury.labels.labels(indices)
    decoded = torch.cat([tokenizer.decode(tokenizer.encode(part)) for part in images.split(64)])
    original, coded = jury.category_hits(images, labels[:, 0]), jury.category_hits(decoded, labels[:, 0])
    accuracy = float(original.mean())
    rows = [
        row("c", "category: held-out originals", mean_interval(original)),
        row("c", "category: their reconstructions", mean_interval(coded), kind="floor", at_least=RATIO * accuracy),
        row("c", "subcategory: held-out originals", mean_interval(jury.subcategory_hits(images, labels[:, 1]))),
        row("c", "subcategory: their reconstructions", mean_interval(jury.subcategory_hits(decoded, labels[:, 1]))),
    ]
    for number, name in enumerate(jury.labels.categories):
        of_class = labels[:, 0] == number
        if of_class.any():
            note = f"reconstructions {float(coded[of_class].mean()):.2f}"
            rows.append(row("c", f"  {name}: originals", mean_interval(original[of_class]), note=note))
    return rows, float(coded.mean())


def category_rows(jury: Jury, name: str, images: Tensor, asked: Sequence[str], bar: float | None) -> list[Row]:
    """Agreement of samples with the asked categories, in all and per category."""
    hits = jury.category_hits(images, asked)
    floor = {} if bar is None else {"kind": "floor", "at_least": bar}
    rows = [row("c", f"category: {name}", mean_interval(hits), **floor)]
    for category in jury.labels.categories:
        of_class = torch.tensor([a == category for a in asked])
        if of_class.any():
            rows.append(row("c", f"  {category}: {name}", mean_interval(hits[of_class])))
    return rows


def subcategory_rows(jury: Jury, generator: ImageGenerator, each: int, seed: int) -> list[Row]:
    """`each` samples of every subcategory the generator knows; a constant guess would be right once in their number."""
    known = [name for name in jury.labels.subcategories if name in generator.classes]
    asked = [name for name in known for _ in range(each)]
    images = generator.generate(classes=asked, seed=seed).images
    bar = TIMES_CHANCE / len(known)
    hits = jury.subcategory_hits(images, asked)
    note = f"chance {1 / len(known):.4f}"
    return [
        row(
            "c",
            "subcategory: samples, equally many of each",
            mean_interval(hits),
            kind="floor",
            at_least=bar,
            note=note,
        )
    ]


def refiner_rows(
    jury: Jury, alone: ImageGenerator, pair: ImageGenerator, asked: Sequence[str], images: Tensor, seed: int
) -> list[Row]:
    """Drafter + refiner against the generator alone (`images`, the same classes and seeds): agreement and time."""
    second = pair.generate(classes=list(asked), seed=seed).images
    one, two = jury.category_hits(images, asked), jury.category_hits(second, asked)
    rows = [
        row("pair", "category: generator alone", mean_interval(one)),
        row("pair", "category: drafter + refiner", mean_interval(two)),
        row("pair", "category: difference (paired)", mean_interval(two - one)),
    ]
    some = list(asked[:16])
    first, both = timings([lambda: alone.generate(classes=some, seed=1), lambda: pair.generate(classes=some, seed=1)])
    threads = f"batch {len(some)}, {torch.get_num_threads()} threads, median of 5, alternating"
    return [
        *rows,
        Row(group="pair", name="ms per image: generator alone", value=1000 * first / len(some), n=5, note=threads),
        Row(group="pair", name="ms per image: drafter + refiner", value=1000 * both / len(some), n=5, note=threads),
        Row(group="pair", name="time of the pair over the generator's", value=both / first, n=5),
    ]


def timings(calls: Sequence[Callable[[], object]], rounds: int = 5) -> list[float]:
    """Median seconds of every call, taken in turn so that a change of load meets all of them."""
    seconds: list[list[float]] = [[] for _ in calls]
    for call in calls:
        call()
    for _ in range(rounds):
        for i, call in enumerate(calls):
            start = time.perf_counter()
            call()
            seconds[i].append(time.perf_counter() - start)
    return [median(s) for s in seconds]


def drafter_and_refiner(generator: ImageGenerator, refiner: ImageGenerator, handover: int) -> ImageGenerator:
    """Both as one model."""
    return replace(generator, then=refiner, settings=replace(generator.settings, then=refiner.name, handover=handover))


def _numbers(asked: Sequence[str] | Tensor, names: tuple[str, ...]) -> Tensor:
    return asked if isinstance(asked, Tensor) else torch.tensor([names.index(a) for a in asked])
