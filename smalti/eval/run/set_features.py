"""Features of a set of images, chunk by chunk into the working files of a run, by the networks that were found."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from smalti.eval.inception import Inception, features
from smalti.eval.progress import stage
from smalti.eval.protocols.base import Protocol
from smalti.eval.run.chunks import Chunk, ChunkStore, settings_digest
from smalti.eval.run.image_sets import ImageSet
from smalti.eval.run.result import Skip
from smalti.eval.run.set_scores import KERNEL
from smalti.eval.weights import load as load_weights

if TYPE_CHECKING:
    from smalti.eval.run.evaluate import Settings

Classifier = Callable[[Tensor], Tensor]
"""float images [B, 3, H, W] in [0, 1] to logits [B, classes]."""
BATCH = 8
"""Images of every pass of a network, the last one filled up: kernels are chosen by the batch size."""
LAYERS = ("2048", "spatial")
NOT_MEASURED = ("fid", "sfid", *KERNEL, "inception_score")


@dataclass(frozen=True, kw_only=True, eq=False)
class SetNetworks:
    """What was found, and facts of the files."""

    inception: Inception | None
    classifier: Classifier | None
    no_classifier: str
    """Why there is none."""
    device: str
    facts: dict[str, Any]

    @property
    def layers(self) -> tuple[str, ...]:
        """Layers of the samples; a reference needs no logits."""
        return (*LAYERS, "logits_unbiased") if self.inception is not None and self.inception.has_logits else LAYERS


@dataclass(kw_only=True)
class ReadSet:
    """What is known of the images that were read."""

    names: list[str] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    digests: list[str] = field(default_factory=list)
    skipped: list[Skip] = field(default_factory=list)
    sizes: set[tuple[int, int]] = field(default_factory=set)
    counts: list[int] = field(default_factory=list)
    """Number of images read of every chunk."""


def set_networks(
    protocol: Protocol, settings: "Settings", device: str, classifier: Classifier | None, *, imagenet: bool
) -> tuple[SetNetworks, list[Skip]]:
    """What is there; for what is not, the metrics left out and how to get it.

    `imagenet`: the samples are known to be of ImageNet's classes, so its classifier may judge them where its file is
    found; otherwise only where the file is given by name. Errors: ValueError for a file that was given and is wrong.
    """
    facts: dict[str, Any] = {}
    inception, skipped = _inception(protocol, settings, device, facts)
    reason = ""
    if classifier is None:
        classifier, reason = _imagenet_classifier(settings, device, facts, imagenet)
    return SetNetworks(
        inception=inception, classifier=classifier, no_classifier=reason, device=device, facts=facts
    ), skipped


def _inception(
    protocol: Protocol, settings: "Settings", device: str, facts: dict[str, Any]
) -> tuple[Inception | None, list[Skip]]:
    assert protocol.fid is not None
    if not settings.networks:
        return None, [Skip(what=name, reason="left out on request") for name in NOT_MEASURED]
    try:
        weights = load_weights("inception", settings.weights, allow_unknown=settings.allow_unknown_weights)
        network = Inception(weights.state, resize=protocol.fid["resize"]).to(device)  # type: ignore[arg-type]
    except (FileNotFoundError, ImportError) as error:
        return None, [Skip(what=name, reason=str(error)) for name in NOT_MEASURED]
    facts["inception"] = weights.to_dict()
    try:
        network.check(("logits_unbiased",))
    except ValueError as error:
        return network, [Skip(what="inception_score", reason=str(error))]
    return network, []


def _imagenet_classifier(
    settings: "Settings", device: str, facts: dict[str, Any], imagenet: bool
) -> tuple[Classifier | None, str]:
    from smalti.eval.classification import EfficientNetLite0

    name = "efficientnet-lite0"
    if not settings.networks:
        return None, "left out on request"
    if not imagenet and name not in settings.weights:
        return None, (
            "the classes are not known to be ImageNet's: give a classifier of them to evaluate_generation(classifier="
            f"...), or --weights {name}=PATH if they are"
        )
    try:
        weights = load_weights(name, settings.weights, allow_unknown=settings.allow_unknown_weights)
    except (FileNotFoundError, ImportError) as error:
        return None, str(error)
    facts[name] = weights.to_dict()
    return EfficientNetLite0(weights.state).to(device), ""


def run_set(
    images: ImageSet, side: str, protocol: Protocol, networks: SetNetworks, out: Path, settings: "Settings"
) -> tuple[ChunkStore, int]:
    """Computes every chunk that is missing; the store and the number of chunks. `side`: samples or reference."""
    plan = {
        "side": side,
        "images": images.identity | {"n": len(images)},
        "chunk": settings.chunk,
        "protocol": protocol.digest,
        "inception": networks.facts.get("inception", {}).get("sha256"),
        "classifier": networks.facts.get("efficientnet-lite0", {}).get("sha256", networks.classifier is not None),
    }
    store = ChunkStore(out / "work" / settings_digest({"side": side}), plan)
    count = -(-len(images) // settings.chunk)
    with stage(f"{images.name}: features", count) as advance:
        for i in range(count):
            if not store.has(i):
                store.write(i, _chunk(images, i, settings.chunk, networks, samples=side == "samples"))
            advance()
    return store, count


def _chunk(images: ImageSet, i: int, size: int, networks: SetNetworks, *, samples: bool) -> Chunk:
    part = images.chunk(i, size)
    tensors: dict[str, list[Tensor]] = {}
    layers = networks.layers if samples else LAYERS
    for group in part.batches:
        if networks.inception is not None:
            batches = (batch.to(networks.device) for batch in group.split(BATCH))
            for name, values in features(networks.inception, batches, layers, pad_to=BATCH).items():
                tensors.setdefault(name, []).append(values)
        if samples and networks.classifier is not None and min(part.labels) >= 0:
            for batch in group.split(BATCH):
                logits = networks.classifier(batch.to(networks.device).float() / 255)
                tensors.setdefault("class_logits", []).append(logits.detach().float().cpu())
    facts = {
        "names": part.names,
        "digests": part.digests,
        "labels": part.labels,
        "skipped": part.skipped,
        "sizes": [list(batch.shape[-2:]) for batch in part.batches],
    }
    return Chunk(tensors={name: torch.cat(values) for name, values in tensors.items()}, facts=facts)


def gathered(store: ChunkStore, count: int) -> ReadSet:
    """Names, classes, hashes and left out images of all chunks."""
    read = ReadSet()
    for chunk in store.all(count):
        read.names += chunk.facts["names"]
        read.counts.append(len(chunk.facts["names"]))
        read.labels += chunk.facts["labels"]
        read.digests += chunk.facts["digests"]
        read.skipped += [Skip(**s) for s in chunk.facts["skipped"]]
        read.sizes |= {(h, w) for h, w in chunk.facts["sizes"]}
    return read
