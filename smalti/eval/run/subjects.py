"""What is evaluated: a tokenizer over its budgets with codecs at its rate, or reconstructions made elsewhere."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from smalti.eval.baselines import Baseline
from smalti.eval.latent_codes import rounded_latents
from smalti.eval.protocols.base import Protocol as EvalProtocol
from smalti.eval.protocols.pixels import prepare
from smalti.eval.run.sources import Source
from smalti.eval.scalar_quantizer import ScalarQuantizer
from smalti.eval.stopwatch import Stopwatch
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
    times: Stopwatch
    """decode; code: a codec both ways; read: files."""
    code_counts: Tensor | None = None
    """int64 [C, K]: how often each code of a channel of rounded latents occurs."""


@dataclass(frozen=True, kw_only=True)
class RowName:
    """One row of the result."""

    subject: str
    kind: Any
    budget: int | None = None
    depth: int | None = None
    """Bits per value of rounded latents."""

    @property
    def key(self) -> str:
        """As `Row.key`."""
        return self.subject if self.budget is None else f"{self.subject}@{self.budget}"


class Subject(Protocol):
    """Anything that gives images back."""

    name: str

    def rows(self) -> list[RowName]:
        """The rows of the result, in order."""
        ...

    def source_image(self, source: Source, i: int) -> Tensor:
        """Image i as it is encoded and scored, [1, 3, H, W] in [0, 1]."""
        ...

    def outputs(
        self, images: Tensor, indices: Sequence[int], watch: Stopwatch
    ) -> tuple[Iterator[Output], Tokens | None]:
        """One output per row for a batch of source images, made one after the other; its whole tokens.

        `watch` gets the time of encoding. Errors: ValueError or OSError, also while the outputs are made.
        """
        ...


class TokenizerSubject:
    """A tokenizer at several budgets; next to it codecs and thumbnails at the rate of its whole sequence.

    A tokenizer of continuous latents has bits only where they are rounded: `quantizers`, by bits per value.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        budgets: Sequence[int],
        protocol: EvalProtocol,
        baselines: Sequence[Baseline] = (),
        quantizers: Mapping[int, ScalarQuantizer] | None = None,
    ) -> None:
        self.tokenizer, self.protocol, self.name = tokenizer, protocol, tokenizer.name
        self.budgets, self.baselines, self.quantizers = list(budgets), list(baselines), dict(quantizers or {})
        self.whole = tokenizer.layout(protocol.size).length

    def rows(self) -> list[RowName]:
        """Budgets, then rounded latents, then baselines."""
        ours = [RowName(subject=self.name, kind="tokenizer", budget=k) for k in self.budgets]
        rounded = [
            RowName(subject=f"{self.name} at {depth} bits per value", kind="baseline", depth=depth)
            for depth in self.quantizers
        ]
        others = [RowName(subject=f"{b.name} at {b.bpp:.4f} bpp", kind="baseline") for b in self.baselines]
        return ours + rounded + others

    def source_image(self, source: Source, i: int) -> Tensor:
        """By the family's own preprocessing, or as the protocol crops."""
        image = source.read(i)
        if self.protocol.crop == "tokenizer":
            return self.tokenizer.preprocess(image)
        return prepare(self.protocol, image)

    def outputs(self, images: Tensor, indices: Sequence[int], watch: Stopwatch) -> tuple[Iterator[Output], Tokens]:
        """Encoded once, in batches of one size; decoded row by row, so that one row is in memory at a time."""
        batches = images.split(BATCH)
        with watch.measure("encode", len(images), self.tokenizer.device):
            encoded = [self.tokenizer.encode(_filled(batch)) for batch in batches]
        counts = [len(batch) for batch in batches]
        tokens = Tokens.cat([t[:n].to("cpu") for t, n in zip(encoded, counts, strict=True)])
        return self._outputs(images, encoded, counts), tokens

    def _outputs(self, images: Tensor, encoded: Sequence[Tokens], counts: Sequence[int]) -> Iterator[Output]:
        size = (images.shape[-2], images.shape[-1])
        batches = list(zip(encoded, counts, strict=True))
        for k in self.budgets:
            yield _joined([self._decoded(cut(tokens, k, self.whole), size, n) for tokens, n in batches])
        for quantizer in self.quantizers.values():
            yield _joined([self._rounded(tokens, quantizer, size, n) for tokens, n in batches])
        for baseline in self.baselines:
            yield self._coded(baseline, images)

    def _decoded(self, tokens: Tokens, size: tuple[int, int], count: int) -> Output:
        times = Stopwatch()
        with times.measure("decode", count, self.tokenizer.device):
            images = self.tokenizer.decode(tokens)
        columns = {"tokens": tokens.lengths[:count].double().cpu()}
        if not tokens.layout.continuous:
            bits = tokens.bits()[:count]
            columns |= {"bits": bits, "bpp": bits / (size[0] * size[1])}
        return Output(images=enlarge(images[:count].cpu(), size), columns=columns, times=times)

    def _rounded(self, tokens: Tokens, quantizer: ScalarQuantizer, size: tuple[int, int], count: int) -> Output:
        rounded, counts_CK = rounded_latents(tokens[:count], quantizer)
        found = self._decoded(_filled_tokens(rounded, len(tokens)), size, count)
        bits = found.columns["tokens"] * counts_CK.shape[0] * quantizer.depth
        columns = found.columns | {"bits": bits, "bpp": bits / (size[0] * size[1])}
        return replace(found, columns=columns, code_counts=counts_CK)

    def _coded(self, baseline: Baseline, images: Tensor) -> Output:
        times = Stopwatch()
        with times.measure("code", len(images)):
            coded = baseline.code(images)
        pixels = images.shape[-2] * images.shape[-1]
        columns = {"bits": coded.bits, "bpp": coded.bits / pixels, "file_bpp": coded.file_bits / pixels}
        columns["fits"] = coded.fits.double()
        return Output(images=coded.images.cpu(), columns=columns, times=times)


def _joined(parts: Sequence[Output]) -> Output:
    times = Stopwatch()
    for part in parts:
        times.merge(part.times.sums)
    counts = [p.code_counts for p in parts if p.code_counts is not None]
    return Output(
        images=torch.cat([p.images for p in parts]),
        columns={name: torch.cat([p.columns[name] for p in parts]) for name in parts[0].columns},
        times=times,
        code_counts=torch.stack(counts).sum(dim=0) if counts else None,
    )


def _filled(images: Tensor) -> Tensor:
    """A batch of BATCH images: the last one repeated."""
    return torch.cat([images, images[-1:].expand(BATCH - len(images), -1, -1, -1)])


def _filled_tokens(tokens: Tokens, count: int) -> Tokens:
    """The same of tokens."""
    return tokens[torch.arange(count).clamp(max=len(tokens) - 1)]


def cut(tokens: Tokens, budget: int, whole: int) -> Tokens:
    """The first `budget` tokens of every image, or what an image of a dynamic length has of them.

    `whole`: length of the layout that the budget is of. That budget means all tokens, also of images of another size.
    """
    if budget == whole:
        return tokens
    return tokens.prefix([min(budget, n) for n in tokens.lengths.tolist()] if tokens.layout.ragged else budget)


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

    def outputs(self, images: Tensor, indices: Sequence[int], watch: Stopwatch) -> tuple[Iterator[Output], None]:
        """Read from the folder. Errors: ValueError for another size: nothing is resized silently."""
        found, times = [], Stopwatch()
        for row, i in enumerate(indices):
            with times.measure("read", 1):
                image = self.reconstructions.read(i)
            if image.shape[-2:] != images.shape[-2:]:
                raise ValueError(
                    f"{self.reconstructions.paths[i]} is {list(image.shape[-2:])} pixels, its original "
                    f"{list(images[row].shape[-2:])}: pairs are compared as they are, never resized silently"
                )
            found.append(image)
        return iter([Output(images=torch.cat(found), columns={}, times=times)]), None
