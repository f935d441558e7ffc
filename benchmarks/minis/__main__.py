"""`python -m benchmarks.minis`: every floor of the packaged models, as a table, JSON and a sheet of pictures.

smalti data prepare emoji --out data/emoji          # likewise photos, text, networks
smalti data pack --emoji data/emoji --photos data/photos --text data/text --out data/bank.safetensors
python -m benchmarks.minis --bank data/bank.safetensors --networks data/networks --out runs/floors
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import smalti
from benchmarks.minis import captions, classifier, copies, reconstruction, samples
from benchmarks.minis import features as space
from benchmarks.minis.rows import Row, table, verdict
from smalti.data.bank import SOURCES, ImageBank
from smalti.eval import budgets
from smalti.files import write_json, write_text
from smalti.hub.folders import PACKAGED
from smalti.hub.saving import update_card
from smalti.images import write_image
from smalti.nn.perceptual import Perceptual, lpips_of
from smalti.pipeline import ImageGenerator


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How much is measured."""

    heldout: int = 10_000
    """Held-out images per source at most."""
    classes: int = 1000
    """Samples by category, natural mix; as many again in a balanced one."""
    each_subcategory: int = 5
    captions: int = 200
    pair: int = 500
    """Samples of drafter + refiner."""
    reference: int = 400
    """Training images whose reconstructions show what a copy looks like."""
    judge: classifier.JudgeTraining = field(default_factory=classifier.JudgeTraining)


QUICK = Sizes(
    heldout=96, classes=180, each_subcategory=1, captions=60, pair=64, reference=96,
    judge=classifier.JudgeTraining(judges=1, versions=1, steps=500),
)  # fmt: skip


def options() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.minis", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--bank", type=Path, required=True, help="image bank made by `smalti data pack`")
    parser.add_argument("--networks", type=Path, required=True, help="folder of `smalti data prepare networks`")
    parser.add_argument("--out", type=Path, default=Path("runs/floors"), help="folder for floors.json and sheets")
    parser.add_argument("--tokenizer", default="mini/var", help="name or folder")
    parser.add_argument("--generator", default="mini/var-gen", help="name or folder")
    parser.add_argument("--refiner", default="mini/var-refiner", help="name or folder; '' for none")
    parser.add_argument("--handover", type=int, default=None, help="steps of the generator before the refiner's")
    parser.add_argument("--guidance", type=float, default=None, help="instead of the generator's own")
    parser.add_argument("--only", default="abcdep", help="groups to measure: a and b, c, d, e, p (the pair)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cards", action="store_true", help="write the numbers into the cards of the packaged models")
    parser.add_argument("--quick", action="store_true", help="fewer images: a look, not a result")
    return parser.parse_args()


def main() -> None:
    """Measures, prints and writes."""
    args = options()
    torch.set_num_threads(args.threads)
    sizes, started = QUICK if args.quick else Sizes(), time.perf_counter()
    bank = ImageBank.load(args.bank, crops=1)
    run = Run(args, sizes, bank)
    rows: list[Row] = []
    for group, measure in (
        ("ab", run.tokenizer_rows),
        ("cp", run.class_rows),
        ("d", run.caption_rows),
        ("e", run.copies),
    ):
        if set(group) & set(args.only):
            rows += measure()
            print(f"{group}: {time.perf_counter() - started:.0f} s", flush=True)
    print(table(rows))
    print(verdict(rows))
    run.write(rows, time.perf_counter() - started)
    if args.cards:
        write_cards(rows)


def write_cards(rows: Sequence[Row]) -> None:
    """New values of the numbers on the packaged models' cards; which numbers these are is chosen by hand."""
    measured = {r.name: r for r in rows}
    for folder in ("var", "var-gen", "var-refiner"):
        card = json.loads((PACKAGED / folder / "config.json").read_text())["published"]
        for number in card:
            if new := measured.get(number["metric"]):
                number.update(value=round(new.value, 4), protocol=new.protocol)
        update_card(PACKAGED / folder, published=card)


class Run:
    """What the groups share: models, features, the samples made so far."""

    def __init__(self, args: argparse.Namespace, sizes: Sizes, bank: ImageBank) -> None:
        self.args, self.sizes, self.bank = args, sizes, bank
        self.tokenizer: Any = smalti.load(args.tokenizer)
        self.features = space.load_features(args.networks)
        self.kept = space.cached(self.features, args.out / "features.safetensors")
        self.samples: dict[str, Tensor] = {}
        self.models = {"tokenizer": f"{args.tokenizer} {self.tokenizer.fingerprint[:12]}"}
        self._generator: ImageGenerator | None = None

    @property
    def generator(self) -> ImageGenerator:
        """Loaded when first needed, with the guidance asked for."""
        if self._generator is None:
            self._generator = self._load(self.args.generator)
        return self._generator

    def _load(self, name: str) -> ImageGenerator:
        model = smalti.load(name) if name.startswith("mini/") else smalti.load(name, tokenizer=self.tokenizer)
        assert isinstance(model, ImageGenerator), f"{name} is no generator"
        if self.args.guidance is not None:
            guidance = replace(model.settings.guidance, scale=self.args.guidance)
            model = replace(model, settings=replace(model.settings, guidance=guidance))
        self.models[name] = model.fingerprint[:12]
        return model

    def heldout(self, source: str) -> Tensor:
        """Indices of the bank."""
        return captions.spread(self.bank.indices(source, "heldout"), self.sizes.heldout)

    def tokenizer_rows(self) -> list[Row]:
        """(a) and (b)."""
        network = Perceptual(self.args.networks / "lpips_alex.safetensors")

        def lpips(a: Tensor, b: Tensor) -> Tensor:
            return torch.cat([lpips_of(network, x, y) for x, y in zip(a.split(64), b.split(64), strict=True)])

        images = {source: self.bank.exact(self.heldout(source)) for source in SOURCES}
        return reconstruction.reconstruction(self.tokenizer, images, lpips)

    def class_rows(self) -> list[Row]:
        """(c), and the pair."""
        labels, seed = samples.Labels.of(self.bank), self.args.seed
        train = self.bank.indices("emoji", "train")
        counts = (len(labels.categories), len(labels.subcategories))
        judges = classifier.train_judges(
            self.bank.exact(train), labels.labels(train), counts, self.kept, self.sizes.judge
        )
        jury = samples.Jury(judges=judges, features=self.features, labels=labels)
        rows, coded = samples.ceilings(jury, self.tokenizer, self.heldout("emoji"))
        asked = labels.natural(self.sizes.classes)
        natural = self.generator.generate(classes=asked, seed=seed).images
        self.samples["samples by category"] = natural
        rows += samples.category_rows(jury, "samples, natural mix", natural, asked, samples.RATIO * coded)
        each = max(1, self.sizes.classes // len(labels.categories))
        balanced = [name for name in labels.categories for _ in range(each)]
        images = self.generator.generate(classes=balanced, seed=seed + 10_000).images
        rows += samples.category_rows(jury, "samples, balanced mix", images, balanced, None)
        rows += samples.subcategory_rows(jury, self.generator, self.sizes.each_subcategory, seed + 20_000)
        return rows + (self._pair_rows(jury, natural, asked) if self.args.refiner and "p" in self.args.only else [])

    def _pair_rows(self, jury: samples.Jury, natural: Tensor, asked: list[str]) -> list[Row]:
        refiner = self._load(self.args.refiner)
        steps = len(self.generator.generator.schedule())
        handover = self.args.handover or refiner.settings.handover or steps - 2
        pair = samples.drafter_and_refiner(self.generator, refiner, handover)
        # Every n-th sample: image i keeps its own seed only if the run is asked for alone, so both are drawn again.
        some = [asked[i] for i in captions.spread(torch.arange(len(asked)), self.sizes.pair).tolist()]
        images = self.generator.generate(classes=some, seed=self.args.seed + 30_000).images
        self.models["handover"] = f"{handover} of {steps} steps"
        return samples.refiner_rows(jury, self.generator, pair, some, images, self.args.seed + 30_000)

    def caption_rows(self) -> list[Row]:
        """(d)."""
        rows, made = captions.caption_rows(
            self.generator, self.bank, self.kept, limit=self.sizes.captions, seed=self.args.seed + 40_000
        )
        self.samples["samples of withheld artists"] = made["pair"]
        self.samples["samples of withheld code points"] = made["unseen"]
        return rows

    def copies(self) -> list[Row]:
        """(e), with a sheet for every set of samples."""
        train = self.bank.indices("emoji", "train", role="generator")
        unseen = self.bank.indices("emoji", "unseen", role="generator")
        training = self.bank.exact(train)
        neighbors = copies.Neighbors(training, self.kept)
        originals = self.bank.exact(captions.spread(train, self.sizes.reference))
        coded = torch.cat([self.tokenizer.decode(self.tokenizer.encode(part)) for part in originals.split(64)])
        found = {name: neighbors.of(images) for name, images in self.samples.items()}
        for name, images in self.samples.items():
            picture = copies.sheet(images, found[name], training)
            write_image(picture, self.args.out / f"{name.replace(' ', '-')}-and-nearest.png")
        return copies.copy_rows(found, neighbors.of(self.bank.exact(unseen)), neighbors.of(coded))

    def write(self, rows: list[Row], seconds: float) -> None:
        """floors.json and floors.txt."""
        protocol = {
            "reconstruction": budgets.PROTOCOL + "; LPIPS: v0.1, AlexNet, at 64 px; thumbnail: smalti.eval.thumbnail",
            "features": space.PROTOCOL,
            "classifier": classifier.PROTOCOL.format(judge=self.sizes.judge),
            "captions": "text 'NAME, ARTIST style'; gallery: all real training emoji; withheld code points: these too",
            "intervals": "95 % percentile bootstrap over images, 1000 rounds; differences paired",
            "quick": self.args.quick, "seed": self.args.seed, "threads": self.args.threads,
            "seconds": round(seconds),
        }  # fmt: skip
        self.args.out.mkdir(parents=True, exist_ok=True)
        data = {"models": self.models, "protocol": protocol, "rows": [r.to_dict() for r in rows]}
        write_json(self.args.out / "floors.json", data)
        write_text(self.args.out / "floors.txt", f"{table(rows)}\n\n{verdict(rows)}\n")
        print(f"written: {self.args.out / 'floors.json'}")


if __name__ == "__main__":
    main()
