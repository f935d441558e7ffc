"""Tokens, Segment, TokenLayout: the one currency of tokenizers, generators, evaluation and files.

Shape suffixes: B batch, L tokens, C latent channels.
"""

import json
import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

FILE_FORMAT = "smalti-tokens/1"
PAD = -1


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A block of tokens with one shape and one vocabulary, in raster order inside."""

    shape: tuple[int, ...]
    """Token grid: (n,) for a sequence, (h, w) for a map, (t, h, w) for video."""
    vocab: int | None
    """Number of codes; None = continuous latents."""
    name: str = ""
    """What the segment holds, where a layout has several kinds ("holistic", "patches")."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))
        if not self.shape or min(self.shape) < 1:
            raise ValueError(f"Segment.shape must hold positive sizes, got {self.shape}")
        if self.vocab is not None and self.vocab < 2:
            raise ValueError(f"Segment.vocab must be at least 2, or None for latents, got {self.vocab}")

    @property
    def count(self) -> int:
        """Number of tokens."""
        return math.prod(self.shape)

    @property
    def bits(self) -> float:
        """Bits per token, log2(vocab); an error for continuous latents, which have none."""
        if self.vocab is None:
            raise ValueError(f"segment {self.name or self.shape} holds continuous latents: they have no bits per token")
        return math.log2(self.vocab)


@dataclass(frozen=True, kw_only=True)
class TokenLayout:
    """How the tokens of one image are arranged, and where the sequence may be cut."""

    segments: tuple[Segment, ...]
    """The blocks, in sequence order."""
    prefixes: tuple[int, ...]
    """Every legal number of leading tokens to keep, ascending; the last is the whole sequence."""
    ragged: bool = False
    """True if images of one batch may have different numbers of tokens, anything up to the whole."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "segments", tuple(self.segments))
        object.__setattr__(self, "prefixes", tuple(int(k) for k in self.prefixes))
        if not self.segments:
            raise ValueError("TokenLayout.segments is empty: a layout needs at least one segment")
        ascending = all(a < b for a, b in zip(self.prefixes, self.prefixes[1:], strict=False))
        if not self.prefixes or not ascending or self.prefixes[0] < 1 or self.prefixes[-1] != self.length:
            raise ValueError(
                f"TokenLayout.prefixes must ascend from at least 1 to the {self.length} tokens of the segments, "
                f"got {self.prefixes}"
            )

    @classmethod
    def scales(cls, sides: Sequence[int], vocab: int) -> Self:
        """Square maps of growing side, cut after any whole map (VAR)."""
        segments = tuple(Segment(shape=(n, n), vocab=vocab, name=f"{n}x{n}") for n in sides)
        ends = [sum(s.count for s in segments[: i + 1]) for i in range(len(segments))]
        return cls(segments=segments, prefixes=tuple(ends))

    @property
    def length(self) -> int:
        """Number of tokens of a whole sequence."""
        return sum(s.count for s in self.segments)

    @property
    def continuous(self) -> bool:
        """True if the tokens are latents, not ids."""
        return self.segments[0].vocab is None

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """Index of the first token of every segment, and the total length at the end."""
        starts = [0]
        for segment in self.segments:
            starts.append(starts[-1] + segment.count)
        return tuple(starts)

    def vocabs(self) -> Tensor:
        """int64 [L]: number of codes at every position."""
        return torch.cat([torch.full((s.count,), s.vocab or 0, dtype=torch.int64) for s in self.segments])

    def segment_of(self) -> Tensor:
        """int64 [L]: which segment every position belongs to."""
        return torch.cat([torch.full((s.count,), i, dtype=torch.int64) for i, s in enumerate(self.segments)])

    def segment_number(self, segment: int | str) -> int:
        """Index of a segment given by index or name. Errors: ValueError with those there are."""
        names = [s.name or str(i) for i, s in enumerate(self.segments)]
        if str(segment) in names:
            return names.index(str(segment))
        if str(segment).isdigit() and int(segment) < len(names):
            return int(segment)
        raise ValueError(f"this layout has no segment {segment!r}; it has {', '.join(names)}")

    def coordinates(self, segment: int) -> Tensor:
        """int64 [count, dims]: place of every token of one segment in its grid."""
        axes = [torch.arange(n) for n in self.segments[segment].shape]
        return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).flatten(0, -2)

    def bits(self, k: int) -> float:
        """Nominal bits of the first `k` tokens, the sum of log2(vocab)."""
        pairs = zip(self.starts, self.segments, strict=False)
        return sum(s.bits * min(max(k - start, 0), s.count) for start, s in pairs)

    def check_prefix(self, k: int) -> int:
        """Returns `k` if the sequence may be cut there; otherwise an error that names the nearest legal cuts."""
        if k in self.prefixes or (self.ragged and 1 <= k <= self.length):
            return k
        at = bisect_left(self.prefixes, k)
        near = " and ".join(str(n) for n in self.prefixes[max(at - 1, 0) : at + 1])
        shown = ", ".join(map(str, self.prefixes)) if len(self.prefixes) <= 16 else f"{self.prefixes[0]}..{self.length}"
        raise ValueError(f"this layout cannot be cut after {k} tokens; nearest legal: {near} (all: {shown})")

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Inverse of `to_dict`; lists from JSON become tuples again."""
        segments = tuple(Segment(**s) for s in data["segments"])
        return cls(segments=segments, prefixes=tuple(data["prefixes"]), ragged=bool(data.get("ragged", False)))


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Which tokenizer made the tokens, so that no other one decodes them."""

    tokenizer: str
    """Registry name or path of the tokenizer."""
    weights: str
    """sha256 over the tokenizer's tensors ("" for one that was never given a name)."""
    image_size: tuple[int, int]
    """Height and width of the encoded image, pixels."""
    preprocessing: str = ""
    """How the image was brought to that size, resizer included."""
    seed: int | None = None
    """Seed of the generator given to `encode`, for families that sample with one; None = nothing was drawn."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "image_size", tuple(self.image_size))


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What was chosen at the positions of one decoding step: ids or latents."""

    ids: Tensor | None = None
    """int64 [B, n]."""
    latents: Tensor | None = None
    """float [B, n, C]."""
    logprobs: Tensor | None = None
    """float [B, n]: log-probability of each id under the distribution it was drawn from."""
    soft: Tensor | None = None
    """float [B, n, V]: mixture weights used instead of the ids where a family decodes softly (VAR's more_smooth)."""
    positions: Tensor | None = None
    """int64 [B, n]: the positions chosen, where confidence decides them; None = those of the schedule's step."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Tokens:
    """The tokens of a batch of images: ids or latents, how many of them count, and how they are arranged."""

    layout: TokenLayout
    ids: Tensor | None = None
    """int64 [B, L], -1 behind the length of an image."""
    latents: Tensor | None = None
    """float [B, L, C], as the generator predicts them."""
    lengths: Tensor = None  # type: ignore[assignment]
    """int64 [B]; by default every image has all columns."""
    origin: Origin | None = None
    """The tokenizer they belong to; None = unknown."""

    def __post_init__(self) -> None:
        if (self.ids is None) == (self.latents is None):
            raise ValueError("Tokens need either ids or latents, got " + ("neither" if self.ids is None else "both"))
        values = self.values
        ranks = 2 if self.ids is not None else 3
        if values.ndim != ranks or values.shape[1] > self.layout.length:
            raise ValueError(
                f"Tokens of this layout are [batch, up to {self.layout.length}{'' if ranks == 2 else ', channels'}], "
                f"got {list(values.shape)}"
            )
        if self.ids is not None and self.ids.dtype != torch.int64:
            raise ValueError(f"token ids must be int64, got {self.ids.dtype}: convert with ids.long()")
        if self.lengths is None:
            object.__setattr__(self, "lengths", torch.full((values.shape[0],), values.shape[1], dtype=torch.int64))
        if self.lengths.shape != (values.shape[0],) or (self.lengths > values.shape[1]).any():
            raise ValueError(f"lengths must be [batch] and at most {values.shape[1]}, got {self.lengths.tolist()}")

    @property
    def values(self) -> Tensor:
        """The ids or the latents."""
        values = self.ids if self.ids is not None else self.latents
        assert values is not None
        return values

    def __len__(self) -> int:
        return self.values.shape[0]

    def __getitem__(self, index: int | slice | Tensor) -> Self:
        """The tokens of some images of the batch, trimmed to their longest."""
        rows = slice(index, index + 1 or None) if isinstance(index, int) else index
        lengths = self.lengths[rows]
        width = int(lengths.max()) if len(lengths) else 0
        return self._with(self.values[rows][:, :width], lengths)

    def _with(self, values: Tensor, lengths: Tensor) -> Self:
        if self.ids is not None:
            return replace(self, ids=values, lengths=lengths)
        return replace(self, latents=values, lengths=lengths)

    def prefix(self, k: int | Sequence[int] | Tensor) -> Self:
        """The first `k` tokens of every image (one number, or one per image); the only way to cut a sequence.

        An illegal `k` is a ValueError that names the nearest legal ones.
        """
        cuts = [k] * len(self) if isinstance(k, int) else [int(n) for n in k]
        if len(cuts) != len(self):
            raise ValueError(f"prefix got {len(cuts)} lengths for {len(self)} images")
        have = self.lengths.tolist()
        for cut, length in zip(cuts, have, strict=True):
            self.layout.check_prefix(cut)
            if cut > length:
                raise ValueError(f"cannot keep {cut} tokens of an image that has {length}")
        lengths = torch.tensor(cuts, dtype=torch.int64, device=self.lengths.device)
        width = max(cuts, default=0)
        values = self.values[:, :width].clone()
        beyond = torch.arange(width, device=values.device) >= lengths.to(values.device)[:, None]
        values[beyond] = PAD if self.ids is not None else 0
        return self._with(values, lengths)

    def segment(self, i: int) -> Tensor:
        """Tokens of segment `i` in its grid: ids [B, *shape] or latents [B, *shape, C]."""
        start, end = self.layout.starts[i], self.layout.starts[i + 1]
        if (self.lengths < end).any():
            raise ValueError(
                f"segment {i} spans tokens {start}..{end - 1}; an image has only {int(self.lengths.min())}"
            )
        return self.values[:, start:end].unflatten(1, self.layout.segments[i].shape)

    def with_segment(self, segment: int | str, other: Self) -> Self:
        """These tokens with one segment, by index or name, taken from `other`, image by image.

        Where segments hold different sides of an image, decoding shows them mixed: Hita's holistic tokens of a style
        image with the patch tokens of a content image. Errors: ValueError for tokens of another layout, tokenizer or
        number of images, or without the segment.
        """
        if self.layout != other.layout or len(self) != len(other):
            raise ValueError(
                "a segment can be taken from tokens of the same layout and number of images: got "
                f"{len(self)} images with segments {[s.shape for s in self.layout.segments]} and {len(other)} with "
                f"{[s.shape for s in other.layout.segments]}"
            )
        if self.origin and other.origin and self.origin.weights != other.origin.weights:
            raise ValueError(
                f"these tokens are of {self.origin.tokenizer}, the segment's of {other.origin.tokenizer}: "
                "encode both with one tokenizer"
            )
        i, mixed = self.layout.segment_number(segment), self._with(self.values.clone(), self.lengths)
        mixed.segment(i).copy_(other.segment(i))  # a segment is a view
        return mixed

    def bits(self) -> Tensor:
        """float64 [B]: nominal bits of every image."""
        return torch.tensor([self.layout.bits(int(n)) for n in self.lengths], dtype=torch.float64)

    def check_ids(self) -> None:
        """A ValueError if an id is outside its vocabulary; padding must be exactly the columns behind the length."""
        if self.ids is None:
            return
        ids, width = self.ids.cpu(), self.ids.shape[1]
        inside = torch.arange(width) < self.lengths.cpu()[:, None]
        bad = torch.where(inside, (ids < 0) | (ids >= self.layout.vocabs()[:width]), ids != PAD)
        if bad.any():
            image, position = (int(n) for n in bad.nonzero()[0])
            allowed = f"0..{int(self.layout.vocabs()[position]) - 1}" if inside[image, position] else "-1 (padding)"
            raise ValueError(
                f"token id {int(ids[image, position])} at position {position} of image {image} is out of range: "
                f"allowed {allowed}. The tokens are damaged or of another tokenizer"
            )

    def to(self, device: torch.device | str) -> Self:
        """The same tokens on another device."""
        return self._with(self.values.to(device), self.lengths.to(device))

    def save(self, path: str | Path) -> None:
        """Writes a `.safetensors` file with the layout and origin in its header; never leaves a partial file."""
        from smalti.files import write_tensors

        tensors = {"ids" if self.ids is not None else "latents": self.values.cpu(), "lengths": self.lengths.cpu()}
        header = {"layout": self.layout.to_dict(), "origin": asdict(self.origin) if self.origin else None}
        write_tensors(path, tensors, {"format": FILE_FORMAT, "smalti": json.dumps(header)})

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Reads what `save` wrote; ids are checked against the layout's vocabularies.

        Errors: FileNotFoundError; ValueError for another kind of file, a damaged one, or ids out of range.
        """
        from smalti.files import read_tensors

        tensors, metadata = read_tensors(path)
        if metadata.get("format") != FILE_FORMAT:
            raise ValueError(
                f"{path} is not a token file (format {metadata.get('format')!r}, expected {FILE_FORMAT!r}); "
                "token files are written by `smalti encode ... --out tokens.safetensors` and Tokens.save"
            )
        try:
            header = json.loads(metadata["smalti"])
            origin = Origin(**header["origin"]) if header["origin"] else None
            tokens = cls(layout=TokenLayout.from_dict(header["layout"]), origin=origin, **tensors)
            tokens.check_ids()
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} is not a valid token file: {error}") from error
        return tokens

    @classmethod
    def cat(cls, parts: Sequence[Self]) -> Self:
        """One batch out of several of the same layout and origin."""
        first = parts[0]
        if any(p.layout != first.layout or p.origin != first.origin for p in parts):
            raise ValueError("only tokens of the same layout and tokenizer can be put into one batch")
        width = max(p.values.shape[1] for p in parts)
        pad = PAD if first.ids is not None else 0
        rows = []
        for part in parts:
            missing = width - part.values.shape[1]
            shape = (0, missing) if first.ids is not None else (0, 0, 0, missing)
            rows.append(torch.nn.functional.pad(part.values, shape, value=pad))
        return first._with(torch.cat(rows), torch.cat([p.lengths for p in parts]))
