"""The reconstruction task: every row of a subject over a source of images, streaming and resumable.

A chunk of images is read, reconstructed and scored, and its columns are kept in one file (`smalti.eval.run.chunks`);
the results are made from these files alone. Memory does not grow with the number of images, but for a few numbers per
image, and for the features of KID and precision, which are read back at the end.

Shape suffixes: B batch, N images, D features, R rings.
"""

import resource
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn

from smalti.eval.detail.frc import RingSums, ring_sums
from smalti.eval.detail.signal import luminance
from smalti.eval.inception import Inception
from smalti.eval.inception_resize import quantize
from smalti.eval.protocols.base import Protocol
from smalti.eval.protocols.pixels import finish, pixel_values
from smalti.eval.run.chunks import Chunk, ChunkStore
from smalti.eval.run.result import Skip
from smalti.eval.run.sources import Source
from smalti.eval.run.subjects import Subject
from smalti.tokens import TokenLayout, Tokens

SMALLEST_FRC = 16
"""Pixels below which the rings hold nothing."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Networks:
    """The networks that were found; what is missing is left out of the result with its reason."""

    lpips: Mapping[str, nn.Module] = field(default_factory=dict)
    dists: nn.Module | None = None
    inception: Inception | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Gathered:
    """What all chunks together say of one row."""

    names: list[str]
    columns: dict[str, Tensor]
    """float64 [N]."""
    rings: RingSums | None
    seconds_encode: float
    """Per image."""
    seconds_decode: float


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
    read, skipped = _read(subject, source, span)
    tensors: dict[str, list[Tensor]] = {}
    facts: dict[str, Any] = {"names": [], "digests": [], "skipped": skipped, "encode": 0.0, "decode": {}}
    for shape, group in groupby(read, key=lambda item: tuple(item[1].shape)):
        items = list(group)
        images = torch.cat([image for _, image in items])
        try:
            outputs, tokens, seconds = subject.outputs(images, [i for i, _ in items])
        except (ValueError, OSError) as error:
            skipped += [{"what": source.names[i], "reason": str(error)} for i, _ in items]
            continue
        facts["names"] += [source.names[i] for i, _ in items]
        facts["digests"] += [source.digest(i) for i, _ in items]
        facts["encode"] += seconds
        for row, output in zip(subject.rows(), outputs, strict=True):
            key = _key(row.subject, row.budget)
            for name, column in _scores(protocol, networks, images, output.images).items():
                tensors.setdefault(f"{key}|{name}", []).append(column)
            for name, column in output.columns.items():
                tensors.setdefault(f"{key}|{name}", []).append(column)
            facts["decode"][key] = facts["decode"].get(key, 0.0) + output.seconds
        if networks.inception is not None:
            tensors.setdefault("source|features", []).append(_features(networks.inception, protocol, images))
        if tokens is not None:
            _keep_tokens(tensors, facts, tokens, (shape[-2], shape[-1]))
    return Chunk(tensors={name: torch.cat(parts) for name, parts in tensors.items()}, facts=facts)


def _read(subject: Subject, source: Source, span: range) -> tuple[list[tuple[int, Tensor]], list[dict[str, str]]]:
    """Images that can be read, with their numbers, ordered by size; and those that cannot, with the reason."""
    read, skipped = [], []
    for i in span:
        try:
            read.append((i, subject.source_image(source, i)))
        except (ValueError, OSError) as error:
            skipped.append({"what": source.names[i], "reason": str(error)})
    return sorted(read, key=lambda item: (tuple(item[1].shape), item[0])), skipped


def _scores(protocol: Protocol, networks: Networks, source: Tensor, images: Tensor) -> dict[str, Tensor]:
    reference, scored = finish(protocol, source, images)
    side = min(reference.shape[-2:])
    fitting = {name: net for name, net in networks.lpips.items() if side >= 31}
    columns = pixel_values(protocol, reference, scored, fitting)
    if networks.dists is not None and protocol.name == "native":
        columns["dists"] = networks.dists(reference, scored)
    if side >= SMALLEST_FRC:
        sums = ring_sums(luminance(reference), luminance(scored))
        columns["rings"] = torch.stack([sums.cross, sums.reference, sums.image], dim=1)
        columns["ring_counts"] = sums.count.expand(len(images), -1).double()
    if networks.inception is not None:
        columns["features"] = _features(networks.inception, protocol, images)
    return columns


def _features(network: Inception, protocol: Protocol, images: Tensor) -> Tensor:
    assert protocol.fid is not None
    return network(quantize(images, protocol.fid["uint8"]))["2048"]  # type: ignore[arg-type]


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


# ---- from chunks to results ------------------------------------------------------------------------------------------


def gather(subject: Subject, store: ChunkStore, count: int) -> tuple[dict[str, Gathered], list[Skip], list[str]]:
    """Columns of every row over all chunks, skipped images, hashes of the files that were read."""
    keys = [_key(row.subject, row.budget) for row in subject.rows()]
    columns: dict[str, dict[str, list[Tensor]]] = {key: {} for key in keys}
    rings: dict[str, RingSums] = {}
    seconds = dict.fromkeys(keys, 0.0)
    names, digests, skipped, encode = [], [], [], 0.0
    for chunk in store.all(count):
        names += chunk.facts["names"]
        digests += chunk.facts["digests"]
        skipped += [Skip(**s) for s in chunk.facts["skipped"]]
        encode += chunk.facts["encode"]
        for key in keys:
            part = _part(chunk, key)
            seconds[key] += chunk.facts["decode"].get(key, 0.0)
            if "rings" in part:
                rings[key] = _added(rings.get(key), part["rings"], part["ring_counts"][0])
            for name, column in part.items():
                if column.ndim == 1:
                    columns[key].setdefault(name, []).append(column)
    images = max(len(names), 1)
    found = {
        key: Gathered(
            names=names,
            columns={name: torch.cat(parts) for name, parts in columns[key].items()},
            rings=rings.get(key),
            seconds_encode=encode / images,
            seconds_decode=seconds[key] / images,
        )
        for key in keys
        if names
    }
    return found, skipped, digests


def feature_batches(store: ChunkStore, count: int, key: str) -> Iterator[Tensor]:
    """Inception features float32 [B, D] of a row, or of the sources (key "source"), chunk by chunk."""
    for chunk in store.all(count):
        if f"{key}|features" in chunk.tensors:
            yield chunk.tensors[f"{key}|features"]


def token_batches(store: ChunkStore, count: int) -> Iterator[tuple[Tokens, tuple[int, int]]]:
    """Tokens of all images with their image size. Errors: ValueError if images of one run have several layouts."""
    first: dict[str, Any] | None = None
    for chunk in store.all(count):
        if "tokens|ids" not in chunk.tensors:
            continue
        first = first or chunk.facts["layout"]
        if chunk.facts["layout"] != first or chunk.facts.get("mixed_layouts"):
            raise ValueError("images of different sizes have different token layouts: their statistics do not add up")
        tensors = chunk.tensors
        layout = TokenLayout.from_dict(chunk.facts["layout"])
        tokens = Tokens(layout=layout, ids=tensors["tokens|ids"], lengths=tensors["tokens|lengths"])
        height, width = chunk.facts["size"]
        yield tokens, (height, width)


def peak_megabytes() -> float:
    """Most memory the process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _key(subject: str, budget: int | None) -> str:
    return subject if budget is None else f"{subject}@{budget}"


def _part(chunk: Chunk, key: str) -> dict[str, Tensor]:
    start = f"{key}|"
    return {name.removeprefix(start): value for name, value in chunk.tensors.items() if name.startswith(start)}


def _added(before: RingSums | None, rings_B3R: Tensor, counts_R: Tensor) -> RingSums:
    cross, reference, image = rings_B3R.sum(dim=0)
    if before is not None:
        cross, reference, image = before.cross + cross, before.reference + reference, before.image + image
    return RingSums(cross=cross, reference=reference, image=image, count=counts_R.long())


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
