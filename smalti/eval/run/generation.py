"""Generation: samples of a generator, or given ones, against a reference set."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from smalti.eval.environment import environment
from smalti.eval.npz import write_statistics
from smalti.eval.progress import stage
from smalti.eval.protocols.base import Protocol
from smalti.eval.protocols.base import protocol as protocol_named
from smalti.eval.protocols.columns import Stamp, meets
from smalti.eval.run.image_sets import FolderSet, ImageSet
from smalti.eval.run.result import EvalResult, Row, Skip, Value, write_csv, write_result
from smalti.eval.run.samples import make_samples, sample_facts
from smalti.eval.run.set_features import Classifier, ReadSet, SetNetworks, gathered, run_set, set_networks
from smalti.eval.run.set_pictures import Shown, write_neighbors, write_sheet
from smalti.eval.run.set_reference import Reference, images_at, open_reference
from smalti.eval.run.set_scores import KERNEL, Collected, accuracy, collect, distances, score_of_logits
from smalti.eval.run.sources import fingerprint
from smalti.pipeline import ImageGenerator

if TYPE_CHECKING:
    from smalti.eval.run.evaluate import Settings

IMAGENET_CLASSES = 1000


def evaluate_generation(
    *,
    generator: str | ImageGenerator | None = None,
    samples: Path | None = None,
    reference: Path | None = None,
    n: int | None = None,
    out: Path,
    settings: "Settings",
    device: str = "cpu",
    classifier: Classifier | None = None,
) -> EvalResult:
    """Scores `n` images of a generator, or given samples, and writes metrics.json and per_image.csv into `out`.

    `samples`: a folder, or an .npz of ADM's layout. `reference`: the same, an .npz of statistics, or of both; without
    it only what needs none is measured. `classifier`: of the generator's classes; by default that of ImageNet, where
    the classes are ImageNet's and its file is found. A killed run goes on where it was, with the sample it was making.

    Errors: ValueError for wrong arguments, before an image is made; for a wrong network file; FileNotFoundError.
    """
    protocol = protocol_named(settings.protocol)
    if protocol.fid is None:
        raise ValueError(f"protocol {protocol.label} has no FID: score samples by native, adm-rfid or titok")
    if (generator is None) == (samples is None):
        raise ValueError("give either a generator or samples, not both")
    if n is not None and n < 2:
        raise ValueError(f"n must be at least 2, got {n}: distances of sets need a covariance")
    model = _generator(generator, n, device)
    against = open_reference(reference, protocol, model.tokenizer if model is not None else None)
    imagenet = model is not None and model.generator.classes == IMAGENET_CLASSES
    networks, skipped = set_networks(protocol, settings, device, classifier, imagenet=imagenet)
    if model is not None:
        assert n is not None
        rule = protocol.fid["uint8"]
        with stage(f"{model.name}: samples", -(-n // settings.chunk)) as advance:
            made = make_samples(
                model, out, n, seed=settings.seed, chunk=settings.chunk, rule=rule, on_chunk=advance  # type: ignore[arg-type]
            )  # fmt: skip
        fake: ImageSet = FolderSet(made)
        facts: dict[str, Any] = sample_facts(model, settings.seed, rule)
        fake.identity["made by"] = facts
    else:
        assert samples is not None
        fake, facts = images_at(samples, n), {}
    classes = model.classes if model is not None else ()
    return _scored(fake, against, protocol, networks, skipped, out, settings, facts, classes)


# ---- parts-----------------------------------------------------------------------------------------------------------


def _generator(given: str | ImageGenerator | None, n: int | None, device: str) -> ImageGenerator | None:
    if given is None:
        return None
    if n is None:
        raise ValueError("say how many images to generate: --n 5000 (FID needs at least 2049, KID does with fewer)")
    if isinstance(given, ImageGenerator):
        return given
    from smalti.hub import load

    model = load(given, device=device)
    if not isinstance(model, ImageGenerator):
        raise ValueError(f"{given} is a tokenizer and generates nothing by itself: evaluate it with --tokenizer")
    return model


def _scored(
    fake: ImageSet,
    against: Reference | None,
    protocol: Protocol,
    networks: SetNetworks,
    skipped: list[Skip],
    out: Path,
    settings: "Settings",
    facts: dict[str, Any],
    classes: Sequence[str],
) -> EvalResult:
    store, count = run_set(fake, "samples", protocol, networks, out, settings)
    read = gathered(store, count)
    if not read.names:
        raise ValueError(f"none of the {len(fake)} samples could be read; the first: {read.skipped[0].reason}")
    ours = collect(store.all(count))
    real = _against(ours, against, protocol, networks, out, settings)
    summary, known = real.values, {s.what for s in skipped}
    skipped = [*skipped, *(s for s in real.skipped if s.what not in known), *read.skipped]
    if ours.logits_NC is not None:
        try:
            summary["inception_score"] = score_of_logits(ours.logits_NC, adm=protocol.name == "adm-rfid")
        except ValueError as error:
            skipped.append(Skip(what="inception_score", reason=str(error)))
    tasks, columns = _classes(ours, read, networks, summary, skipped, settings.seed)
    stamp = Stamp.of(protocol, n=len(read.names), reference_sha256=real.digest).to_dict()
    remarks = [r for r in (meets(protocol, len(read.names)), _stretched(read.sizes, real.read.sizes)) if r]
    subject = facts.get("generator", fake.name)
    tasks |= _pictures(
        subject, Shown(images=fake, read=read, features_ND=ours.kept_ND), real.shown, out, settings, classes
    )
    row = Row(
        subject=subject,
        kind="samples",
        protocol=stamp | ({"remark": "; ".join(remarks)} if remarks else {}),
        summary=summary,
        tasks=tasks,
        facts=facts | {"reference": against.name if against else "none", "sample_sizes": _sizes(read.sizes)},
    )
    return _written(row, read, columns, protocol, networks, skipped, out, settings, fake)


def _written(
    row: Row,
    read: ReadSet,
    columns: dict[str, Tensor],
    protocol: Protocol,
    networks: SetNetworks,
    skipped: list[Skip],
    out: Path,
    settings: "Settings",
    fake: ImageSet,
) -> EvalResult:
    plain = {f: getattr(settings, f) for f in settings.__dataclass_fields__}
    found = fingerprint(read.digests) if read.digests else str(fake.identity["sha256"])
    result = EvalResult(
        suite="gen",
        data={"name": fake.name, "images": len(read.names), "fingerprint": found},
        rows=[row],
        skipped=skipped,
        settings=plain | {"networks": networks.facts, "protocol": protocol.to_dict()},
        environment=environment(),
    )
    write_csv(out / "per_image.csv", [(row.key, read.names, columns)])
    write_result(out, result)
    return result


@dataclass(kw_only=True, eq=False)
class _Compared:
    """What the reference says of the samples."""

    values: dict[str, Value] = field(default_factory=dict)
    skipped: list[Skip] = field(default_factory=list)
    """Metrics left out, and images that could not be read."""
    digest: str | None = None
    read: ReadSet = field(default_factory=ReadSet)
    shown: Shown | None = None
    """The images, where there are any and their features are known."""


def _against(
    ours: Collected,
    against: Reference | None,
    protocol: Protocol,
    networks: SetNetworks,
    out: Path,
    settings: "Settings",
) -> _Compared:
    if against is None:
        reason = "no reference: give --reference with real images, or an .npz of statistics"
        return _Compared(skipped=[Skip(what=name, reason=reason) for name in ("fid", "sfid", *KERNEL)])
    theirs, read = None, ReadSet()
    if against.images is not None:
        store, count = run_set(against.images, "reference", protocol, networks, out, settings)
        theirs, read = collect(store.all(count)), gathered(store, count)
        if not read.names:
            raise ValueError(f"no image of the reference {against.name} could be read: {read.skipped[0].reason}")
    digest = against.digest or fingerprint(read.digests)
    if networks.inception is None:
        return _Compared(skipped=read.skipped, digest=digest, read=read)
    values, skipped = distances(ours, theirs, against.published, force_fid=settings.force_fid)
    if theirs is not None and against.published is None and theirs.pool.n > len(theirs.pool.total_D):
        write_statistics(out / "reference.npz", theirs.pool.statistics(), theirs.spatial.statistics())
    shown = None
    if theirs is not None and against.images is not None:
        shown = Shown(images=against.images, read=read, features_ND=theirs.kept_ND)
    return _Compared(values=values, skipped=[*skipped, *read.skipped], digest=digest, read=read, shown=shown)


def _pictures(
    subject: str, samples: Shown, reference: Shown | None, out: Path, settings: "Settings", classes: Sequence[str]
) -> dict[str, Any]:
    """What the page shows, as tasks of the row: a sheet, and neighbors of some samples in the reference."""
    found: dict[str, Any] = {"pictures": write_sheet(out, subject, samples, settings.chunk)}
    if reference is not None:
        pictures, distances = write_neighbors(out, subject, samples, reference, settings.chunk, classes)
        found["pictures"] += pictures
        found["neighbors"] = distances
    return found


def _classes(
    ours: Collected, read: ReadSet, networks: SetNetworks, summary: dict[str, Value], skipped: list[Skip], seed: int
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Accuracy of the classes: into the summary or the list of what was left out; its details and columns."""
    labels = torch.tensor(read.labels)
    known = {} if min(read.labels) < 0 else {"class": labels.double()}
    if not known:
        reason = "the samples have no classes: arr_1 of an .npz, or files named as 000012-class3.png"
    elif ours.class_logits_NC is None:
        reason = networks.no_classifier
    else:
        try:
            summary["class_accuracy"], details = accuracy(ours.class_logits_NC, labels, seed)
        except ValueError as error:
            reason = str(error)
        else:
            hits = (ours.class_logits_NC.topk(1, dim=1).indices[:, 0] == labels).double()
            return {"classes": details}, known | {"class_hit": hits}
    skipped.append(Skip(what="class_accuracy", reason=reason))
    return {}, known


def _stretched(samples: set[tuple[int, int]], reference: set[tuple[int, int]]) -> str:
    if not reference or samples == reference:
        return ""
    return (
        f"samples are {_sizes(samples)} pixels, the reference {_sizes(reference)}: each is resized by itself to "
        "Inception's 299x299"
    )


def _sizes(sizes: set[tuple[int, int]]) -> str:
    listed = [f"{w}x{h}" for h, w in sorted(sizes)]
    return ", ".join(listed[:3]) + (f" and {len(listed) - 3} more" if len(listed) > 3 else "")
