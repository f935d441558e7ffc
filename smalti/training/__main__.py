"""`python -m smalti.training RECIPE`: training where only torch and the package's source are at hand."""

import argparse
from pathlib import Path

from smalti.training.recipe import shipped


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(prog="python -m smalti.training", description=f"Recipes: {', '.join(shipped())}.")
    p.add_argument("recipe", help="a shipped recipe, or the path of a .yaml file")
    p.add_argument("--setting", default="cpu", help="which setting of the recipe (default: cpu)")
    p.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="e.g. training.minutes=3; repeatable"
    )
    p.add_argument("--data", type=Path, default=Path("data/bank.safetensors"), help="the image bank")
    p.add_argument("--networks", type=Path, default=Path("data/networks"), help="folder with lpips_alex.safetensors")
    p.add_argument("--out", type=Path, default=Path("runs/minis"), help="runs go to OUT/RECIPE")
    p.add_argument("--model", action="append", default=[], metavar="RECIPE=FOLDER", help="an exported model elsewhere")
    p.add_argument("--threads", type=int, default=0, help="CPU threads (default: all)")
    p.add_argument("--cpu", action="store_true", help="do not use a GPU")
    p.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    return p


def main(arguments: list[str] | None = None) -> None:
    """Runs the command; user errors are one line."""
    args = parser().parse_args(arguments)
    import torch

    from smalti.training.stages import Place, train

    if args.threads:
        torch.set_num_threads(args.threads)
    pairs = [pair.partition("=") for pair in args.model]
    place = Place(
        out=args.out,
        data=args.data,
        networks=args.networks,
        models={name: Path(folder) for name, _, folder in pairs},
        cpu=args.cpu,
        resume=args.resume,
    )
    try:
        train(args.recipe, place, setting=args.setting, overrides=args.set)
    except (ValueError, OSError, FloatingPointError) as error:
        raise SystemExit(f"error: {error}") from error


if __name__ == "__main__":
    main()
