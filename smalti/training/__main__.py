"""`python -m smalti.training RECIPE`: training where only torch and the package's source are at hand.

`python -m smalti.training pack --out FILE.tar.gz` puts code, data and recipe into one file for such a machine.
"""

import argparse
import sys
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
    p.add_argument(
        "--networks", type=Path, default=Path("data/networks"), help="folder of `smalti data prepare networks`"
    )
    p.add_argument("--out", type=Path, default=Path("runs/minis"), help="runs go to OUT/RECIPE")
    p.add_argument("--model", action="append", default=[], metavar="RECIPE=FOLDER", help="an exported model elsewhere")
    p.add_argument("--threads", type=int, default=0, help="CPU threads (default: all)")
    p.add_argument("--cpu", action="store_true", help="do not use a GPU")
    p.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    return p


def pack_parser() -> argparse.ArgumentParser:
    """The command line of `pack`."""
    p = argparse.ArgumentParser(prog="python -m smalti.training pack", description=pack_description())
    p.add_argument("--recipe", default="minis", help="what the other machine is to run (default: minis)")
    p.add_argument("--setting", default="gpu", help="with which setting (default: gpu)")
    p.add_argument("--data", type=Path, default=Path("data/bank.safetensors"), help="the image bank")
    p.add_argument(
        "--networks", type=Path, default=Path("data/networks"), help="folder of `smalti data prepare networks`"
    )
    p.add_argument("--out", type=Path, default=Path("smalti-training.tar.gz"), help="the file to write")
    return p


def pack_description() -> str:
    """First line of the module that packs."""
    from smalti.training import pack

    return (pack.__doc__ or "").splitlines()[0]


def main(arguments: list[str] | None = None) -> None:
    """Runs the command; user errors are one line."""
    given = sys.argv[1:] if arguments is None else arguments
    try:
        _pack(given[1:]) if given[:1] == ["pack"] else _train(given)
    except (ValueError, OSError, FloatingPointError) as error:
        raise SystemExit(f"error: {error}") from error


def _pack(arguments: list[str]) -> None:
    from smalti.training.pack import pack

    args = pack_parser().parse_args(arguments)
    path = pack(args.out, data=args.data, networks=args.networks, recipe=args.recipe, setting=args.setting)
    print(f"wrote {path} ({path.stat().st_size / 1e6:.1f} MB)")


def _train(arguments: list[str]) -> None:
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
    train(args.recipe, place, setting=args.setting, overrides=args.set)


if __name__ == "__main__":
    main()
