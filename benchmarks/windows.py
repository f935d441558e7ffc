"""`python -m benchmarks.windows --size 4096 --window 512`: memory and time of a large image, whole and in windows.

Every run has a process of its own, random weights and one random image; its peak is that of the resident memory. A run
that would need more than `--limit` GiB ends with "does not fit" instead of pushing the machine into swap.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

RUNS = ("whole encode", "windowed encode", "whole decode", "windowed decode")


def options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.windows", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--tokenizer", default="llamagen/vq-ds16-c2i", help="name of a published tokenizer")
    parser.add_argument("--size", type=int, default=4096, help="side of the image, pixels")
    parser.add_argument("--window", type=int, default=512, help="side of a window, pixels")
    parser.add_argument("--overlap", type=int, help="of the windows, pixels (default: a quarter of a window)")
    parser.add_argument("--threads", type=int, default=2, help="torch threads")
    parser.add_argument("--limit", type=float, default=16.0, help="GiB of address space of a run")
    parser.add_argument("--runs", nargs="+", choices=RUNS, default=RUNS, help="which runs")
    parser.add_argument("--json", action="store_true", help="one JSON object per run")
    parser.add_argument("--child", choices=RUNS, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def measure(args: argparse.Namespace) -> dict[str, float]:
    """One run in this process: seconds, peak resident MiB, and resident MiB before it began."""
    import resource

    import torch

    from smalti.hub import model_info
    from smalti.hub.families import family
    from smalti.tokenizers.windows import WindowedTokenizer
    from smalti.tokens import Tokens

    limit = int(args.limit * 2**30)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    entry = model_info(args.tokenizer)
    tokenizer: Any = family("tokenizer", entry.family).model_class(entry.config).eval()
    way, verb = args.child.split()
    if way == "windowed":
        tokenizer = WindowedTokenizer(tokenizer, window=args.window, overlap=args.overlap)
    layout = tokenizer.layout(args.size)
    if verb == "encode":
        given = torch.rand(1, 3, args.size, args.size)
    elif layout.continuous:
        raise SystemExit("random latents of a continuous tokenizer are of no known range: --runs ... encode only")
    else:
        given = Tokens(layout=layout, ids=torch.randint(layout.segments[0].vocab or 0, (1, layout.length)))
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    getattr(tokenizer, verb)(given)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"seconds": seconds, "peak_mib": peak / 1024, "before_mib": before / 1024}  # Linux counts KiB


def run(name: str, arguments: Sequence[str]) -> dict[str, float | str]:
    """One run in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.windows", *arguments, "--child", name]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode == 0:
        return json.loads(result.stdout.splitlines()[-1])
    message = (result.stderr.strip().splitlines() or [f"exit status {result.returncode}"])[-1]
    memory = any(word in result.stderr for word in ("allocate memory", "MemoryError", "bad_alloc"))
    return {"failed": "does not fit" if memory else message}


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry of the benchmark."""
    arguments = sys.argv[1:] if arguments is None else arguments
    args = options(arguments)
    if args.child:
        print(json.dumps(measure(args)))
        return
    if not args.json:
        print(f"{args.tokenizer}, {args.size}x{args.size}, windows of {args.window}, {args.threads} threads")
        print(f"{'run':16}  {'seconds':>8}  {'peak RSS MiB':>12}  {'before MiB':>10}")
    for name in args.runs:
        row = run(name, arguments)
        if args.json:
            print(json.dumps({"run": name, **row}), flush=True)
        elif "failed" in row:
            print(f"{name:16}  {row['failed']} ({args.limit:g} GiB)", flush=True)
        else:
            print(f"{name:16}  {row['seconds']:8.1f}  {row['peak_mib']:12.0f}  {row['before_mib']:10.0f}", flush=True)


if __name__ == "__main__":
    main()
