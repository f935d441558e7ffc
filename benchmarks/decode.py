"""`python -m benchmarks.decode`: time, memory and distance to the floor of every generator at a published size.

Weights are random: the published ones are not needed for a time. The floor of a run is what its linear layers cost at
the rates this process measures at its start (weights read by products of two rows, floating-point operations of
products of many rows); attention, sampling and everything else come on top of it. Every model has a process of its own.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.timing import Traffic, measure_rates, median_seconds, peak_megabytes
from smalti.decoding.loop import Stage
from smalti.files import write_json
from smalti.generators.base import Condition, Generator
from smalti.hub import model_info
from smalti.hub.families import config_from_dict, family
from smalti.hub.registry import Entry
from smalti.nn.linear import pack_linears
from smalti.pipeline import ImageGenerator
from smalti.tokens import Tokens

MODELS = (
    "llamagen/c2i-B-256",
    "nar/imagenet-256-B",
    "var/d16",
    "code/d16+d8",
    "detailflow/16-gpt-l",
    "hita/ultra-gpt-b-250e",
    "titok/generator-s128",
    "rar/b",
    "flexar/113m-c2i",
)
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, kw_only=True)
class Row:
    """One model at one batch size."""

    model: str
    batch: int
    dtype: str
    parameters: int
    """Of the generator (of both, for a pair)."""
    tokens: int
    """Of one image."""
    steps: int
    """Weight passes for a batch of images."""
    seconds: float
    """Per image, tokens and image decoding; median."""
    token_seconds: float
    """Per image, tokens alone."""
    tokens_per_second: float
    peak_megabytes: float
    weight_gigabytes: float
    """Read by the linear layers for one batch."""
    gigaflop: float
    """Of the linear layers, for one image."""
    floor_ratio: float
    """Time for the tokens over the floor of the linear layers."""
    gigabytes_per_second: float
    """Rate of the floor."""
    gigaflops: float
    """Rate of the floor."""
    late_over_early: float | None
    """Time of a step in the last quarter over one in the first, by the median; 1 = cost does not grow with position.
    None where steps decide different numbers of tokens."""
    same_alone: float | None
    """Share of the ids of the first image that are the same when it is made alone; None at batch 1."""
    changed_ids: float | None
    """Share of the most likely ids that differ from float32, teacher-forced on one sequence; None in float32."""


def options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.decode", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", nargs="*", default=MODELS, help="registry names; code/d16+d8 is drafter + refiner")
    parser.add_argument("--batch", nargs="*", type=int, default=[1, 8])
    parser.add_argument("--dtype", choices=DTYPES, default="float32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--plain", action="store_true", help="leave weights in torch's layout (CPU)")
    parser.add_argument("--json", type=Path, default=None, help="file to write")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


# ---- models ----------------------------------------------------------------------------------------------------------


def random_generator(entry: Entry) -> Generator:
    """The model of an entry with random weights, none of them zero."""
    torch.manual_seed(0)
    model = family(entry.role, entry.family).model_class(entry.config).eval()
    with torch.no_grad():
        for p in model.parameters():
            if p.ndim >= 2 or not p.any():
                nn.init.normal_(p, std=0.02)
    assert isinstance(model, Generator)
    return model


def pipeline(name: str, dtype: torch.dtype, device: torch.device, packed: bool) -> ImageGenerator:
    """Generator and tokenizer of an entry, random weights; "code/d16+d8" hands over after 8 of 10 scales."""
    pair = name == "code/d16+d8"
    entry = model_info("var/d16" if pair else name)
    assert entry.tokenizer is not None
    stated = model_info(entry.tokenizer)
    tokenizer: Any = family("tokenizer", stated.family).model_class(stated.config).eval()
    made = [random_generator(entry)]
    settings = entry.settings
    if pair:
        small = config_from_dict(type(entry.config), {**asdict(entry.config), "depth": 8, "width": 512, "heads": 8})
        made.append(random_generator(replace(entry, config=small)))
        settings = replace(model_info("code/8").settings, then="d8", handover=8)
    for model in made:
        model.to(dtype)
        if packed and device.type == "cpu":
            pack_linears(model)
    parts = [ImageGenerator(generator=m, tokenizer=tokenizer, settings=settings, name=name) for m in made]
    return replace(parts[0], then=parts[1] if pair else None).to(device)


def condition_of(generator: Generator, batch: int) -> Condition:
    """Classes, or random text features where the model is asked by text."""
    if generator.classes:
        return Condition.of_classes([i % generator.classes for i in range(batch)])
    rng = torch.Generator().manual_seed(0)
    return Condition(
        classes=torch.full((batch,), -1), text=torch.randn(batch, 120, generator.text_features, generator=rng)
    )


# ---- measuring -------------------------------------------------------------------------------------------------------


def step_seconds(run: Callable[[], Any]) -> list[float]:
    """Wall time of every step of one generation."""
    times, begin = [], time.perf_counter()
    for _ in run():
        now = time.perf_counter()
        times.append(now - begin)
        begin = now
    return times


def late_over_early(times: list[float], model: Generator) -> float | None:
    """Median of the last quarter over that of the first; the very first step, which fills the cache, is left out."""
    if len({step.count for step in model.schedule()}) > 1:
        return None
    times = times[1:] or times
    quarter = max(1, len(times) // 4)
    first, last = sorted(times[:quarter]), sorted(times[-quarter:])
    return last[len(last) // 2] / first[len(first) // 2]


def same_alone(model: ImageGenerator, stages: Sequence[Stage], run: Callable[[], Any]) -> float | None:
    """Share of equal ids of one image in a batch and alone; its noise is the same bit for bit."""
    if model.generator.layout.continuous:
        return None
    *_, together = run()
    *_, alone = model._decode(stages, condition_of(model.generator, 1), 0, None)
    return float((together.values[0] == alone.values[0]).float().mean())


@torch.inference_mode()
def changed_ids(name: str, dtype: torch.dtype) -> float | None:
    """Share of the most likely ids that change with the dtype, on one random sequence."""
    if dtype == torch.float32 or name == "code/d16+d8":
        return None
    entry = model_info(name)
    model = random_generator(entry)
    if model.layout.continuous:
        return None
    stated = model_info(entry.tokenizer or "")
    tokenizer: Any = family("tokenizer", stated.family).model_class(stated.config).eval()
    rng = torch.Generator().manual_seed(0)
    ids = torch.stack([torch.randint(int(v), (1,), generator=rng) for v in model.layout.vocabs()], dim=1)
    tokens, condition = Tokens(layout=model.layout, ids=ids), condition_of(model, 1)

    def best() -> Tensor:
        prediction: Any = model(tokens, condition, feedback=tokenizer.feedback(1))
        return prediction.logits_RBnV.argmax(-1)

    before = best()
    model.to(dtype)
    return float((best() != before).float().mean())


def measure(name: str, args: argparse.Namespace) -> list[Row]:
    """All batch sizes of one model, in this process."""
    torch.set_num_threads(args.threads)
    device, dtype = torch.device(args.device), DTYPES[args.dtype]
    rates = measure_rates(device, dtype)
    model = pipeline(name, dtype, device, packed=not args.plain)
    models = [model.generator, *([model.then.generator] if model.then else [])]
    stages, _, _ = model._plan(None, None, None, None)
    tokens = model.generator.layout.length
    rows = []
    for batch in args.batch:
        condition = condition_of(model.generator, batch)

        def run(condition: Condition = condition) -> Any:
            return model._decode(stages, condition, 0, None)

        def image(run: Callable[[], Any] = run) -> Tensor:
            *_, last = run()
            return model._images(last, model._tokens(last))

        token_seconds = median_seconds(lambda run=run: [None for _ in run()], args.repeat)
        with Traffic(nn.ModuleList(models), rates) as traffic:
            times = step_seconds(run)
        seconds = median_seconds(image, args.repeat)
        rows.append(
            Row(
                model=name,
                batch=batch,
                dtype=args.dtype,
                parameters=sum(p.numel() for m in models for p in m.parameters()),
                tokens=tokens,
                steps=len(times),
                seconds=seconds / batch,
                token_seconds=token_seconds / batch,
                tokens_per_second=tokens * batch / token_seconds,
                peak_megabytes=peak_megabytes(device),
                weight_gigabytes=traffic.gigabytes,
                gigaflop=traffic.gigaflop / batch,
                floor_ratio=token_seconds / traffic.floor_seconds,
                gigabytes_per_second=rates.gigabytes_per_second,
                gigaflops=rates.gigaflops,
                late_over_early=late_over_early(times, model.generator),
                same_alone=None if batch == 1 else same_alone(model, stages, run),
                changed_ids=None if batch != args.batch[0] else changed_ids(name, dtype),
            )
        )
    return rows


def main() -> None:
    """Measures and prints; one process per model."""
    args = options()
    if args.child:
        print(json.dumps([asdict(row) for row in measure(args.model[0], args)]))
        return
    columns = "batch steps seconds tokens/s peak-MB weight-GB GFLOP x-floor GB/s GFLOP/s late/early same-alone bf16-ids"
    print(f"{'model':26}" + "".join(f"{name:>12}" for name in columns.split()))
    rows: list[dict[str, Any]] = []
    passed = [a for a in sys.argv[1:] if a != "--json" and a != str(args.json)]
    for name in args.model:
        command = [sys.executable, "-m", "benchmarks.decode", *passed, "--model", name, "--child"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            print(f"{name:26} failed: {done.stderr.strip().splitlines()[-1]}", flush=True)
            continue
        for row in (Row(**r) for r in json.loads(done.stdout)):
            rows.append(asdict(row))
            changed = "-" if row.changed_ids is None else f"{row.changed_ids:.2%}"
            growth = "-" if row.late_over_early is None else f"{row.late_over_early:.2f}"
            numbers = [
                f"{row.batch}", f"{row.steps}", f"{row.seconds:.2f}", f"{row.tokens_per_second:.1f}",
                f"{row.peak_megabytes:.0f}", f"{row.weight_gigabytes:.1f}", f"{row.gigaflop:.0f}",
                f"{row.floor_ratio:.2f}", f"{row.gigabytes_per_second:.1f}", f"{row.gigaflops:.0f}",
                growth, "-" if row.same_alone is None else f"{row.same_alone:.2%}", changed,
            ]  # fmt: skip
            print(f"{row.model:26}" + "".join(f"{n:>12}" for n in numbers), flush=True)
    if args.json:
        write_json(args.json, {"settings": vars(args) | {"json": str(args.json)}, "rows": rows})


if __name__ == "__main__":
    main()
