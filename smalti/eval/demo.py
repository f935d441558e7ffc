"""The demo: reconstruct real images at every budget, generate from classes and texts, compare drafter + refiner.

Everything is computed here and handed over as one `Demo`; `smalti.eval.demo_files` writes it.
"""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from smalti.data.sample_images import Sample, samples
from smalti.eval.budgets import BudgetSweep, budgets_of, sweep
from smalti.eval.progress import stage
from smalti.hub import list_models, model_info
from smalti.images import read_images
from smalti.pipeline import ImageGenerator
from smalti.tokenizers.base import Tokenizer

PROMPTS = (
    "a red apple",
    "a smiling face with sunglasses",
    "a slice of pizza",
    "a blue heart",
    "a rocket",
    "a cat, noto style",
)
CLASSES = (
    "face-smiling",
    "animal-mammal",
    "food-fruit",
    "heart",
    "animal-bird",
    "food-sweet",
    "person-role",
    "plant-flower",
    "sport",
    "country-flag",
    "transport-ground",
    "place-building",
)
"""Shown where a generator knows them all; of any other generator as many classes, evenly spread."""
PER_CLASS, PER_PROMPT, COMPARED, TIMED_RUNS = 4, 8, 8, 3


@dataclass(frozen=True, kw_only=True, eq=False)
class Generated:
    """Images made for one class or text."""

    label: str
    images: Tensor
    """float [n, 3, H, W] in [0, 1]."""
    seed: int
    """Seed of the first image; image i has seed + i."""


@dataclass(frozen=True, kw_only=True, eq=False)
class HandOver:
    """One generator to the end against drafter + refiner, on the same texts and seeds."""

    labels: tuple[str, ...]
    alone: Tensor
    """float [n, 3, H, W]: the drafter makes all steps."""
    together: Tensor
    """float [n, 3, H, W]: the refiner takes over."""
    seconds_alone: float
    """Median of the timed runs for all n images, decoding included."""
    seconds_together: float
    """The same for both."""
    difference: float
    """Mean absolute difference of the images, in [0, 1]."""
    steps: int
    handover: int
    """Steps the drafter makes."""
    tokens_drafted: int
    tokens: int
    drafter: str
    refiner: str
    parameters: tuple[int, int]
    """Of drafter and refiner."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Demo:
    """Everything the demo computed."""

    samples: list[Sample]
    originals: Tensor
    """float [B, 3, H, W] in [0, 1]: the samples at the tokenizer's size."""
    sweep: BudgetSweep
    by_class: list[Generated]
    by_text: list[Generated]
    hand_over: HandOver | None
    tokenizer: Tokenizer
    generator: ImageGenerator
    refiner: ImageGenerator | None
    seed: int
    seconds: dict[str, float]
    """Wall-clock time of every stage."""


def run_demo(
    tokenizer: Tokenizer,
    generator: ImageGenerator,
    refiner: ImageGenerator | None = None,
    *,
    handover: int | None = None,
    prompts: Sequence[str] = PROMPTS,
    classes: Sequence[int | str] | None = None,
    seed: int = 0,
) -> Demo:
    """Runs the demo with the given models on the packaged samples.

    `handover`: steps before `refiner` takes over (default: as in `usual_handover`). `classes` default to twelve of the
    generator's (`shown_classes`). A generator that knows no text leaves the texts out, unless they are the caller's.
    Errors: ValueError for an empty prompt or an unknown class, before anything is computed.
    """
    chosen = list(classes) if classes is not None else shown_classes(generator)
    texts = list(prompts) if generator.text_encoder is not None or prompts is not PROMPTS else []
    for model in (generator, refiner):  # what a model cannot serve is said before the long work, not after it
        if model is not None:
            model.condition(classes=chosen)
            model.condition(text=texts or None)
    seconds: dict[str, float] = {}
    start = time.perf_counter()
    entries = samples()
    originals = torch.cat([tokenizer.preprocess(read_images(entry.path)) for entry in entries])
    budgets = len(budgets_of(tokenizer.layout((originals.shape[-2], originals.shape[-1]))))
    with stage("Reconstructing at every budget", budgets) as advance:
        swept = sweep(tokenizer, originals, seed=seed, on_budget=lambda _: advance())
    seconds["reconstruct"], start = _lap(start)
    with stage("Generating from classes", len(chosen)) as advance:
        by_class = []
        for value in chosen:
            out = generator.generate(classes=[value], n=PER_CLASS, seed=seed)
            by_class.append(Generated(label=class_name(generator, value), images=out.images, seed=seed))
            advance()
    seconds["classes"], start = _lap(start)
    by_text = []
    if texts:
        with stage("Generating from texts", len(texts)) as advance:
            for prompt in texts:
                out = generator.generate(text=[prompt], n=PER_PROMPT, seed=seed)
                by_text.append(Generated(label=prompt, images=out.images, seed=seed))
                advance()
        seconds["texts"], start = _lap(start)
    compared = None
    if refiner is not None:
        compared = compare_hand_over(generator, refiner, handover, classes=chosen, texts=texts, seed=seed)
        seconds["hand-over"], start = _lap(start)
    return Demo(
        samples=entries,
        originals=originals,
        sweep=swept,
        by_class=by_class,
        by_text=by_text,
        hand_over=compared,
        tokenizer=tokenizer,
        generator=generator,
        refiner=refiner,
        seed=seed,
        seconds=seconds,
    )


def compare_hand_over(
    drafter: ImageGenerator,
    refiner: ImageGenerator,
    handover: int | None = None,
    *,
    classes: Sequence[int | str] = (),
    texts: Sequence[str] = (),
    seed: int = 0,
) -> HandOver:
    """Times and pictures of the drafter alone and of both, on the same texts (or classes) and seeds, alternating."""
    schedule = drafter.generator.schedule()
    cut = handover if handover is not None else usual_handover(refiner.name, len(schedule))
    asked = [(texts or classes)[i % len(texts or classes)] for i in range(COMPARED)]
    wanted: dict[str, Any] = {"text" if texts else "classes": asked, "seed": seed}
    labels = asked if texts else [class_name(drafter, value) for value in asked]
    alone_model = replace(drafter, then=None, settings=replace(drafter.settings, handover=None, then=None))
    alone_times, together_times = [], []
    with stage("Drafter alone, drafter + refiner", TIMED_RUNS + 1) as advance:
        for _ in range(TIMED_RUNS + 1):
            start = time.perf_counter()
            alone = alone_model.generate(**wanted)
            seconds, start = _lap(start)
            alone_times.append(seconds)
            together = alone_model.generate(**wanted, then=refiner, handover=cut)
            together_times.append(_lap(start)[0])
            advance()
    return HandOver(
        labels=tuple(map(str, labels)),
        alone=alone.images,
        together=together.images,
        seconds_alone=statistics.median(alone_times[1:]),  # the first run of each is a warm-up
        seconds_together=statistics.median(together_times[1:]),
        difference=float((alone.images - together.images).abs().mean()),
        steps=len(schedule),
        handover=cut,
        tokens_drafted=schedule.ends[cut - 1] if cut else 0,
        tokens=schedule.length,
        drafter=drafter.name,
        refiner=refiner.name,
        parameters=(parameters(drafter.generator), parameters(refiner.generator)),
    )


def usual_handover(refiner: str, steps: int) -> int:
    """Step at which a refiner takes over in a pair known by name; two thirds of the steps if there is none."""
    for name in list_models(role="generator"):
        settings = model_info(name).settings
        if settings.then == refiner and settings.handover is not None:
            return settings.handover
    return steps * 2 // 3


def shown_classes(generator: ImageGenerator) -> list[int | str]:
    """The demo's classes, or as many of a generator's own, evenly spread over all it knows."""
    if set(CLASSES) <= set(generator.classes):
        return list(CLASSES)
    known = generator.generator.classes
    count = min(len(CLASSES), known)
    return [i * known // count for i in range(count)]


def class_name(generator: ImageGenerator, value: int | str) -> str:
    """Name of a class, or "class 7" where the names are unknown."""
    number = generator.class_id(value)
    return generator.classes[number] if number < len(generator.classes) else f"class {number}"


def parameters(model: torch.nn.Module) -> int:
    """Number of parameters."""
    return sum(p.numel() for p in model.parameters())


def model_facts(demo: Demo) -> list[dict[str, Any]]:
    """Name, role, size, weight hash and license of every model used."""
    facts: list[dict[str, Any]] = [
        {
            "name": demo.tokenizer.name,
            "role": "tokenizer",
            "parameters": parameters(demo.tokenizer),
            "weights": demo.tokenizer.fingerprint,
            "license": demo.generator.license,
        }
    ]
    for role, model in (("generator", demo.generator), ("refiner", demo.refiner)):
        if model is not None:
            facts.append(
                {
                    "name": model.name,
                    "role": role,
                    "parameters": parameters(model.generator),
                    "weights": model.fingerprint,
                    "license": model.license,
                }
            )
    return facts


def _lap(start: float) -> tuple[float, float]:
    """Seconds since `start`, and now."""
    now = time.perf_counter()
    return now - start, now
