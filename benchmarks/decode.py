"""`python -m benchmarks.decode`: time, memory and distance to the floor of every generator at a published size.

Weights are random: the published ones are not needed for a time. The floor of a run is what its linear layers cost at
the rates this process measures at its start (weights read by products of two rows, floating-point operations of
products of many rows); attention, sampling and everything else come on top of it. Every model has a process of its own.
Ming is left out: its language model of 16 billion weights does not fit a small machine.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.random_models import condition_of, pipeline, random_generator
from benchmarks.timing import Traffic, measure_rates, peak_megabytes
from smalti.decoding.loop import Partial, Stage
from smalti.eval.stopwatch import wait_for
from smalti.files import write_json
from smalti.generators.base import Condition, Generator
from smalti.hub import model_info
from smalti.hub.families import family
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
    "flexar/113m-t2i",
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
    compile_seconds: float | None
    """Of the first generation of this batch beyond the median of the others, for tokens; None without --compile."""
    tokens_per_second: float
    peak_megabytes: float
    weight_gigabytes: float
    """Read by the linear layers for one batch."""
    gigaflop: float
    """Of the linear layers, for one image."""
    step_milliseconds: list[float]
    """Time of every step for a batch, the median over repetitions."""
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
    parser.add_argument("--compile", action="store_true", help="run the generators' blocks through torch.compile")
    parser.add_argument("--json", type=Path, default=None, help="file to write")
    parser.add_argument("--plot", type=Path, default=None, help="picture of the time of a step by its position")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


# ---- measuring -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, eq=False)
class Timed:
    """One generation."""

    steps: list[float]
    """Seconds of every step."""
    image: float
    """Seconds of decoding the tokens to images."""
    last: Partial

    @property
    def tokens(self) -> float:
        """Seconds of all steps."""
        return sum(self.steps)


def timed(model: ImageGenerator, stages: Sequence[Stage], condition: Condition) -> Timed:
    """Generates and decodes one batch."""
    times: list[float] = []
    last: Partial | None = None
    begin = _clock(model)
    for partial in model._decode(stages, condition, 0, None):
        last, now = partial, _clock(model)
        times.append(now - begin)
        begin = now
    assert last is not None
    model._images(last, model._tokens(last))
    return Timed(steps=times, image=_clock(model) - begin, last=last)


def _clock(model: ImageGenerator) -> float:
    wait_for(model.device)
    return time.perf_counter()


def late_over_early(times: list[float], model: Generator) -> float | None:
    """Median of the last quarter over that of the first; the very first step, which fills the cache, is left out."""
    if len({step.count for step in model.schedule()}) > 1:
        return None
    times = times[1:] or times
    quarter = max(1, len(times) // 4)
    return median(times[-quarter:]) / median(times[:quarter])


def same_alone(model: ImageGenerator, stages: Sequence[Stage], together: Partial) -> float | None:
    """Share of equal ids of one image in a batch and alone; its noise is the same bit for bit."""
    if model.generator.layout.continuous:
        return None
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
    model = pipeline(name, dtype, device, packed=not args.plain, compiled=args.compile)
    models = [model.generator, *([model.then.generator] if model.then else [])]
    stages, _, _ = model._plan(None, None, None, None, None)
    tokens = model.generator.layout.length
    rows = []
    for batch in args.batch:
        condition = condition_of(model.generator, batch)
        as_written = torch.compiler.set_stance("force_eager") if args.compile else nullcontext()
        with Traffic(nn.ModuleList(models), rates) as traffic, as_written:  # the warm-up
            timed(model, stages, condition)
        compiling = timed(model, stages, condition).tokens if args.compile else None
        runs = [timed(model, stages, condition) for _ in range(args.repeat)]
        token_seconds = median([run.tokens for run in runs])
        rows.append(
            Row(
                model=name,
                batch=batch,
                dtype=args.dtype,
                parameters=sum(p.numel() for m in models for p in m.parameters()),
                tokens=tokens,
                steps=len(runs[0].steps),
                seconds=median([run.tokens + run.image for run in runs]) / batch,
                token_seconds=token_seconds / batch,
                compile_seconds=None if compiling is None else compiling - token_seconds,
                tokens_per_second=tokens * batch / token_seconds,
                step_milliseconds=[
                    1000 * median(list(step)) for step in zip(*(run.steps for run in runs), strict=True)
                ],
                peak_megabytes=peak_megabytes(device),
                weight_gigabytes=traffic.gigabytes,
                gigaflop=traffic.gigaflop / batch,
                floor_ratio=token_seconds / traffic.floor_seconds,
                gigabytes_per_second=rates.gigabytes_per_second,
                gigaflops=rates.gigaflops,
                late_over_early=late_over_early(runs[-1].steps, model.generator),
                same_alone=None if batch == 1 else same_alone(model, stages, runs[-1].last),
                changed_ids=None if batch != args.batch[0] else changed_ids(name, dtype),
            )
        )
    return rows


def plot(rows: Sequence[Row], path: Path) -> None:
    """Picture of the time of a step by its position, for models that decide equally many tokens in every step."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4.5), layout="constrained")
    for row in (r for r in rows if r.late_over_early is not None):
        window = max(1, len(row.step_milliseconds) // 32)
        steps = range(1, len(row.step_milliseconds), window)  # without the first, which fills the cache
        heights = [median(row.step_milliseconds[i : i + window]) for i in steps]
        axes.plot([i / len(row.step_milliseconds) for i in steps], heights, label=f"{row.model}, batch {row.batch}")
    axes.set(xlabel="position in the sequence, as a share of its steps", ylabel="milliseconds per step")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, fontsize="small", ncols=2)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)


def main() -> None:
    """Measures and prints; one process per model."""
    args = options()
    if args.child:
        print(json.dumps([asdict(row) for row in measure(args.model[0], args)]))
        return
    columns = "batch steps seconds tokens/s peak-MB weight-GB GFLOP x-floor GB/s GFLOP/s late/early same-alone bf16-ids"
    columns += " compile-s" if args.compile else ""
    print(f"{'model':26}" + "".join(f"{name:>12}" for name in columns.split()))
    rows: list[Row] = []
    outputs = {"--json", str(args.json), "--plot", str(args.plot)}
    passed = [a for a in sys.argv[1:] if a not in outputs]
    for name in args.model:
        command = [sys.executable, "-m", "benchmarks.decode", *passed, "--model", name, "--child"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            print(f"{name:26} failed: {done.stderr.strip().splitlines()[-1]}", flush=True)
            continue
        for row in (Row(**r) for r in json.loads(done.stdout)):
            rows.append(row)
            changed = "-" if row.changed_ids is None else f"{row.changed_ids:.2%}"
            growth = "-" if row.late_over_early is None else f"{row.late_over_early:.2f}"
            numbers = [
                f"{row.batch}", f"{row.steps}", f"{row.seconds:.2f}", f"{row.tokens_per_second:.1f}",
                f"{row.peak_megabytes:.0f}", f"{row.weight_gigabytes:.1f}", f"{row.gigaflop:.0f}",
                f"{row.floor_ratio:.2f}", f"{row.gigabytes_per_second:.1f}", f"{row.gigaflops:.0f}",
                growth, "-" if row.same_alone is None else f"{row.same_alone:.2%}", changed,
                *([] if row.compile_seconds is None else [f"{row.compile_seconds:.1f}"]),
            ]  # fmt: skip
            print(f"{row.model:26}" + "".join(f"{n:>12}" for n in numbers), flush=True)
    if args.json:
        settings = vars(args) | {"json": str(args.json), "plot": str(args.plot)}
        write_json(args.json, {"settings": settings, "rows": [asdict(row) for row in rows]})
    if args.plot:
        plot(rows, args.plot)


if __name__ == "__main__":
    main()
