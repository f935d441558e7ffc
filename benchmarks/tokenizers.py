"""`python -m benchmarks.tokenizers`: time, memory and bf16 stability of every tokenizer family at a published size.

Weights are random (the published ones are not needed for a time), the models are the smallest published of each family.
The share of ids that change under bf16 is measured on noise images with those random weights: it says how close to a
boundary such a quantizer decides, not what a trained model loses.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.timing import median_seconds
from smalti.eval.stopwatch import peak_megabytes
from smalti.files import write_json
from smalti.hub import count_parameters
from smalti.hub.families import FAMILIES, family
from smalti.hub.registry import Entry, Folder, entries
from smalti.tokenizers.base import Tokenizer


@dataclass(frozen=True, kw_only=True)
class Timing:
    """One model at one batch size."""

    model: str
    parameters: int
    batch: int
    encode_seconds: float
    """Per image, median."""
    decode_seconds: float | None
    """Per image, median; None where pixels need a further published model."""
    peak_megabytes: float
    """Of the whole process so far."""
    bf16_changed: float | None
    """Share of ids that differ when the encoder runs in bf16 autocast; None for continuous tokens."""


def options() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tokenizers", description=(__doc__ or "").split("\n")[0])
    known = [f.name for f in FAMILIES if f.role == "tokenizer"]
    parser.add_argument("--family", nargs="*", default=known, choices=known)
    parser.add_argument("--model", nargs="*", default=[], help="registry names instead of the smallest of each family")
    parser.add_argument("--batch", nargs="*", type=int, default=[1, 4])
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, default=None, help="file to write")
    return parser.parse_args()


def smallest(name: str) -> Entry:
    """The published tokenizer of a family with the fewest parameters."""
    published = [e for e in entries() if e.role == "tokenizer" and e.family == name]
    return min((e for e in published if not isinstance(e.source, Folder)), key=count_parameters)


def images_for(tokenizer: Tokenizer, size: int, batch: int) -> Tensor:
    """Noise images or videos."""
    frames = [tokenizer.frames] if tokenizer.frames else []
    return torch.rand(batch, 3, *frames, size, size, generator=torch.Generator().manual_seed(0))


def measure(entry: Entry, batches: list[int], repeat: int) -> Iterator[Timing]:
    """Rows of one model."""
    torch.manual_seed(0)
    config = entry.config
    if getattr(config, "vae", None) is not None and config.vae.scaling_factor is None:  # stands in the weights only
        config = replace(config, vae=replace(config.vae, scaling_factor=1.0))
    tokenizer = family(entry.role, entry.family).model_class(config).eval()
    assert isinstance(tokenizer, Tokenizer)
    size = entry.image_size or tokenizer.sizes.value
    for batch in batches:
        images = images_for(tokenizer, size, batch)
        tokens = tokenizer.encode(images)
        encode = median_seconds(lambda i=images: tokenizer.encode(i), repeat)
        try:
            decode = median_seconds(lambda t=tokens: tokenizer.decode(t), repeat)
        except OSError:  # its pixels need a further published model
            decode = None
        changed = None
        if tokens.ids is not None:
            with torch.autocast("cpu", dtype=torch.bfloat16):
                low = tokenizer.encode(images)
            width = min(tokens.ids.shape[1], low.ids.shape[1])  # type: ignore[union-attr]
            changed = float((tokens.ids[:, :width] != low.ids[:, :width]).float().mean())  # type: ignore[index]
        yield Timing(
            model=entry.name,
            parameters=sum(p.numel() for p in tokenizer.parameters()),
            batch=batch,
            encode_seconds=encode / batch,
            decode_seconds=None if decode is None else decode / batch,
            peak_megabytes=peak_megabytes(),
            bf16_changed=changed,
        )


def main() -> None:
    """Measures and prints."""
    args = options()
    torch.set_num_threads(args.threads)
    known = {e.name: e for e in entries()}
    chosen = [known[n] for n in args.model] or [smallest(name) for name in args.family]
    rows = []
    print(
        f"{'model':28} {'parameters':>13} {'batch':>5} {'encode s':>9} {'decode s':>9} {'peak MB':>8} {'bf16 ids':>9}"
    )
    for entry in chosen:
        for row in measure(entry, args.batch, args.repeat):
            rows.append(row)
            decode = "-" if row.decode_seconds is None else f"{row.decode_seconds:.3f}"
            changed = "-" if row.bf16_changed is None else f"{row.bf16_changed:.2%}"
            print(
                f"{row.model:28} {row.parameters:13,} {row.batch:5} {row.encode_seconds:9.3f} {decode:>9} "
                f"{row.peak_megabytes:8.0f} {changed:>9}",
                flush=True,
            )
    if args.json:
        write_json(args.json, json.loads(json.dumps([asdict(row) for row in rows])))


if __name__ == "__main__":
    main()
