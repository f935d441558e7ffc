"""The reconstruction task: every row of a subject over a source of images, streaming and resumable.

A chunk of images is read, reconstructed and scored, and its columns are kept in one file (`smalti.eval.run.chunks`);
the results are made from these files alone (`smalti.eval.tasks.gathering`). One row of one chunk is in memory at a
time.

Shape suffixes: B batch, R rings, D features, C latent channels, K codes of a channel.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn

from smalti.eval.detail.frc import RINGS, ring_sums
from smalti.eval.detail.signal import luminance
from smalti.eval.inception import Inception
from smalti.eval.inception_resize import quantize
from smalti.eval.perceptual import SMALLEST
from smalti.eval.protocols.base import Protocol
from smalti.eval.protocols.pixels import finish, pixel_values
from smalti.eval.run.chunks import Chunk, ChunkStore
from smalti.eval.run.result import Skip
from smalti.eval.run.sources import Source
from smalti.eval.run.subjects import BATCH, Subject
from smalti.eval.stopwatch import Stopwatch
from smalti.tokens import Tokens

SMALLEST_FRC = 2 * RINGS
"""Pixels below which rings are empty."""
SHARED = ""
"""Key of what all rows of a subject have in common: the times of reading and encoding."""
SOURCE = "source"
"""Key of the features of the originals."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Networks:
    """The networks that were found; what is missing is left out of the result with its reason."""

    lpips: Mapping[str, nn.Module] = field(default_factory=dict)
    dists: nn.Module | None = None
    inception: Inception | None = None


def run_chunks(
    subject: Subject,
    source: Source,
    store: ChunkStore,
    protocol: Protocol,
    networks: Networks,
    *,
    chunk: int = 32,
    on_chunk: Callable[[int], None] | None = None,
) -> int:
    """Computes every chunk that is missing; the number of chunks."""
    count = -(-len(source) // chunk)
    for i in range(count):
        if not store.has(i):
            store.write(
                i, _chunk(subject, source, range(i * chunk, min((i + 1) * chunk, len(source))), protocol, networks)
            )
        if on_chunk is not None:
            on_chunk(i)
    return count


def _chunk(subject: Subject, source: Source, span: range, protocol: Protocol, networks: Networks) -> Chunk:
    times = {SHARED: Stopwatch()}
    with times[SHARED].measure("read", len(span)):
        read, skipped = _read(subject, source, span)
    tensors: dict[str, list[Tensor]] = {}
    groups: list[tuple[int, dict[str, Tensor]]] = []
    facts: dict[str, Any] = {"names": [], "digests": [], "skipped": skipped}
    for shape, group in groupby(read, key=lambda item: tuple(item[1].shape)):
        items = list(group)
        images = torch.cat([image for _, image in items])
        try:
            columns, tokens = _group(subject, images, [i for i, _ in items], protocol, networks, times)
        except (ValueError, OSError) as error:
            skipped += [{"what": source.names[i], "reason": str(error)} for i, _ in items]
            continue
        facts["names"] += [source.names[i] for i, _ in items]
        facts["digests"] += [source.digest(i) for i, _ in items]
        groups.append((len(items), columns))
        if tokens is not None:
            _keep_tokens(tensors, facts, tokens, (shape[-2], shape[-1]))
    facts["times"] = {key: watch.to_dict() for key, watch in times.items()}
    joined = _joined(groups) | {name: torch.cat(parts) for name, parts in tensors.items()}
    return Chunk(tensors=joined, facts=facts)


def _joined(groups: Sequence[tuple[int, dict[str, Tensor]]]) -> dict[str, Tensor]:
    """Columns of groups of images, by number of images: NaN where a size has no such metric."""
    found: dict[str, list[Tensor]] = {}
    for name, ranks in {name: column.ndim for _, columns in groups for name, column in columns.items()}.items():
        for count, columns in groups:
            if name in columns:
                found.setdefault(name, []).append(columns[name])
            elif ranks == 1:
                found.setdefault(name, []).append(torch.full((count,), torch.nan, dtype=torch.float64))
    return {name: torch.cat(parts) for name, parts in found.items()}


def _group(
    subject: Subject,
    images: Tensor,
    indices: Sequence[int],
    protocol: Protocol,
    networks: Networks,
    times: dict[str, Stopwatch],
) -> tuple[dict[str, Tensor], Tokens | None]:
    """Everything about images of one size: tensors by row and name, and their tokens. Adds to `times`, by row."""
    outputs, tokens = subject.outputs(images, indices, times[SHARED])
    found: dict[str, Tensor] = {}
    for row, output in zip(subject.rows(), outputs, strict=True):
        watch = times.setdefault(row.key, Stopwatch())
        watch.merge(output.times.sums)
        columns = output.columns | _scores(protocol, networks, images, output.images, watch)
        if output.code_counts is not None:
            columns["code_counts"] = output.code_counts[None]
        found |= {f"{row.key}|{name}": column for name, column in columns.items()}
    if networks.inception is not None:
        found[f"{SOURCE}|features"] = _features(networks.inception, protocol, images, times[SHARED])
    return found, tokens


def _read(subject: Subject, source: Source, span: range) -> tuple[list[tuple[int, Tensor]], list[dict[str, str]]]:
    """Images that can be read, with their numbers, ordered by size; and those that cannot, with the reason."""
    read, skipped = [], []
    for i in span:
        try:
            read.append((i, subject.source_image(source, i)))
        except (ValueError, OSError) as error:
            skipped.append({"what": source.names[i], "reason": str(error)})
    return sorted(read, key=lambda item: (tuple(item[1].shape), item[0])), skipped


def _scores(
    protocol: Protocol, networks: Networks, source: Tensor, images: Tensor, watch: Stopwatch
) -> dict[str, Tensor]:
    """Columns [B], features [B, D] and sums over rings [1, ...] of pairs of one size, in batches of BATCH."""
    parts = [
        _batch_scores(protocol, networks, a, b, watch)
        for a, b in zip(source.split(BATCH), images.split(BATCH), strict=True)
    ]
    found = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    return found | ({"rings": found["rings"].sum(dim=0, keepdim=True)} if "rings" in found else {})


def _batch_scores(
    protocol: Protocol, networks: Networks, source: Tensor, images: Tensor, watch: Stopwatch
) -> dict[str, Tensor]:
    n = len(images)
    with watch.measure("rounding", n):
        reference, scored = finish(protocol, source, images)
    side = min(reference.shape[-2:])
    fitting = {name: net for name, net in networks.lpips.items() if side >= SMALLEST[name]}
    columns = pixel_values(protocol, reference, scored, fitting, watch)
    if networks.dists is not None and protocol.name == "native" and side >= SMALLEST["vgg"]:
        with watch.measure("dists", n):
            columns["dists"] = networks.dists(reference, scored)
    if side >= SMALLEST_FRC:
        with watch.measure("frc", n):
            sums = ring_sums(luminance(reference), luminance(scored))
            pooled = sums.pooled()
            columns["rings"] = torch.stack([pooled.cross, pooled.reference, pooled.image])[None]
            columns["ring_counts"] = sums.count.expand(n, -1).double()
    if networks.inception is not None:
        columns["features"] = _features(networks.inception, protocol, images, watch)
    return columns


def _features(network: Inception, protocol: Protocol, images: Tensor, watch: Stopwatch) -> Tensor:
    assert protocol.fid is not None
    with watch.measure("inception", len(images)):
        parts = images.split(BATCH)
        return torch.cat([network(quantize(part, protocol.fid["uint8"]))["2048"] for part in parts])  # type: ignore[arg-type]


def _keep_tokens(
    tensors: dict[str, list[Tensor]], facts: dict[str, Any], tokens: Tokens, size: tuple[int, int]
) -> None:
    """Ids of images of one layout; another layout in one run has no common statistics and is counted apart."""
    if tokens.ids is None:
        return
    layout = tokens.layout.to_dict()
    facts.setdefault("layout", layout)
    if facts["layout"] != layout:
        facts["mixed_layouts"] = True
        return
    facts["size"] = list(size)
    missing = tokens.layout.length - tokens.ids.shape[1]
    tensors.setdefault("tokens|ids", []).append(nn.functional.pad(tokens.ids, (0, missing), value=-1))
    tensors.setdefault("tokens|lengths", []).append(tokens.lengths)


def unmeasured(protocol: Protocol, networks: Networks, reasons: Mapping[str, str]) -> Sequence[Skip]:
    """Metrics that the protocol asks for and that could not be measured."""
    missing = [f"lpips_{b}" for b in protocol.lpips if b not in networks.lpips]
    if networks.dists is None and protocol.name == "native":
        missing.append("dists")
    if networks.inception is None and protocol.fid is not None:
        missing += ["fid", "kid", "precision", "recall"]
    return [
        Skip(what=name, reason=reasons.get(name, reasons.get(name.split("_")[0], "no network"))) for name in missing
    ]
