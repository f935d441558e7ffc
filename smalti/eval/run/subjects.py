"""What is evaluated: a tokenizer over its budgets with codecs at its rate, or reconstructions made elsewhere."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from smalti.eval.baselines import Baseline
from smalti.eval.protocols.base import Protocol as EvalProtocol
from smalti.eval.protocols.pixels import prepare
from smalti.eval.run.sources import Source
from smalti.images import enlarge
from smalti.tokenizers.base import Tokenizer
from smalti.tokens import Tokens

BATCH = 8
"""Images in every batch, the last one filled up: kernels are chosen by the batch size, and round by it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Output:
    """Images as one row of the result gives them back."""

    images: Tensor
    """float [B, 3, H, W] in [0, 1], at the size of the source."""
    columns: dict[str, Tensor]
    """float64 [B]: bits and the like."""
    seconds: float
    """For the batch."""


@dataclass(frozen=True, kw_only=True)
class RowName:
    """One row of the result."""

    subject: str
    kind: Any
    budget: int | None = None


class Subject(Protocol):
    """Anything that gives images back."""

    name: str

    def rows(self) -> list[RowName]:
        """The rows of the result, in order."""
        ...

    def source_image(self, source: Source, i: int) -> Tensor:
        """Image i as it is encoded and scored, [1, 3, H, W] in [0, 1]."""
        ...

    def outputs(self, images: Tensor, indices: Sequence[int]) -> tuple[list[Output], Tokens | None, float]:
        """One output per row for a batch of source images; its whole tokens; seconds of encoding."""
        ...


class TokenizerSubject:
    """A tokenizer at several budgets; next to it codecs and thumbnails at the rate of its whole sequence."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        budgets: Sequence[int],
        protocol: EvalProtocol,
        baselines: Sequence[Baseline] = (),
    ) -> None:
        self.tokenizer, self.protocol, self.name = tokenizer, protocol, tokenizer.name
        self.budgets, self.baselines = list(budgets), list(baselines)

    def rows(self) -> list[RowName]:
        """Budgets, then baselines."""
        ours = [RowName(subject=self.name, kind="tokenizer", budget=k) for k in self.budgets]
        return ours + [RowName(subject=f"{b.name} at {b.bpp:.4f} bpp", kind="baseline") for b in self.baselines]

    def source_image(self, source: Source, i: int) -> Tensor:
        """By the family's own preprocessing, or as the protocol crops."""
        image = source.read(i)
        if self.protocol.crop == "tokenizer":
            return self.tokenizer.preprocess(image)
        return prepare(self.protocol, image)

    def outputs(self, images: Tensor, indices: Sequence[int]) -> tuple[list[Output], Tokens | None, float]:
        """Encoded once, decoded at every budget; in batches of one size."""
        parts = [self._batch(batch) for batch in images.split(BATCH)]
        ours = [_joined([outputs[i] for outputs, _, _ in parts]) for i in range(len(self.budgets))]
        tokens = Tokens.cat([tokens for _, tokens, _ in parts])
        seconds = sum(seconds for _, _, seconds in parts)
        return ours + [self._coded(b, images) for b in self.baselines], tokens, seconds

    def _batch(self, images: Tensor) -> tuple[list[Output], Tokens, float]:
        count = len(images)
        filled = torch.cat([images, images[-1:].expand(BATCH - count, -1, -1, -1)])
        start = time.perf_counter()
        tokens = self.tokenizer.encode(filled)
        seconds = time.perf_counter() - start
        size = (images.shape[-2], images.shape[-1])
        found = [self._decoded(tokens.prefix(_within(tokens, k)), size, count) for k in self.budgets]
        return found, tokens[:count].to("cpu"), seconds

    def _decoded(self, tokens: Tokens, size: tuple[int, int], count: int) -> Output:
        start = time.perf_counter()
        images = self.tokenizer.decode(tokens)
        seconds = time.perf_counter() - start
        columns = {"tokens": tokens.lengths[:count].double().cpu()}
        if not tokens.layout.continuous:
            bits = tokens.bits()[:count]
            columns |= {"bits": bits, "bpp": bits / (size[0] * size[1])}
        return Output(images=enlarge(images[:count].cpu(), size), columns=columns, seconds=seconds)

    def _coded(self, baseline: Baseline, images: Tensor) -> Output:
        start = time.perf_counter()
        coded = baseline.code(images)
        pixels = images.shape[-2] * images.shape[-1]
        columns = {"bits": coded.bits, "bpp": coded.bits / pixels, "file_bpp": coded.file_bits / pixels}
        columns["fits"] = coded.fits.double()
        return Output(images=coded.images.cpu(), columns=columns, seconds=time.perf_counter() - start)


def _joined(parts: Sequence[Output]) -> Output:
    return Output(
        images=torch.cat([p.images for p in parts]),
        columns={name: torch.cat([p.columns[name] for p in parts]) for name in parts[0].columns},
        seconds=sum(p.seconds for p in parts),
    )


def _within(tokens: Tokens, budget: int) -> int | list[int]:
    """A budget, or what an image of a dynamic length has of it."""
    if not tokens.layout.ragged:
        return budget
    return [min(budget, n) for n in tokens.lengths.tolist()]


class PairSubject:
    """Reconstructions in a folder, by name."""

    def __init__(self, name: str, reconstructions: Source) -> None:
        self.name, self.reconstructions = name, reconstructions

    def rows(self) -> list[RowName]:
        """One."""
        return [RowName(subject=self.name, kind="pairs")]

    def source_image(self, source: Source, i: int) -> Tensor:
        """As it is."""
        return source.read(i)

    def outputs(self, images: Tensor, indices: Sequence[int]) -> tuple[list[Output], Tokens | None, float]:
        """Read from the folder. Errors: ValueError for another size: nothing is resized silently."""
        found = []
        for row, i in enumerate(indices):
            image = self.reconstructions.read(i)
            if image.shape[-2:] != images.shape[-2:]:
                raise ValueError(
                    f"{self.reconstructions.paths[i]} is {list(image.shape[-2:])} pixels, its original "
                    f"{list(images[row].shape[-2:])}: pairs are compared as they are, never resized silently"
                )
            found.append(image)
        return [Output(images=torch.cat(found), columns={}, seconds=0.0)], None, 0.0
