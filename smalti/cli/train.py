"""`smalti train`: a model by its recipe."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from smalti.cli import call


def train(
    recipe: Positional[str],
    *,
    setting: str = "cpu",
    set: Annotated[tuple[str, ...], arg(metavar="KEY=VALUE [KEY=VALUE ...]")] = (),
    data: Path = Path("data/bank.safetensors"),
    networks: Path = Path("data/networks"),
    out: Path = Path("runs"),
    model: Annotated[tuple[str, ...], arg(metavar="RECIPE=FOLDER [RECIPE=FOLDER ...]")] = (),
    threads: int = 0,
    cpu: bool = False,
    resume: bool = False,
) -> None:
    """Train a model by its recipe: mini-var, mini-var-gen, mini-var-refiner, or minis for all in a row.

    The same as `python -m smalti.training`, which also runs where only torch and the source are at hand.

    Args:
        recipe: A shipped recipe, or the path of a .yaml file.
        setting: Which setting of the recipe: cpu or gpu. They differ in optimization, never in the model.
        set: Values to change, such as training.minutes=3.
        data: The image bank of `smalti data pack`.
        networks: Folder of `smalti data prepare networks`, for the perceptual term.
        out: Runs go to OUT/RECIPE: checkpoints, logs, sample sheets, the exported model.
        model: A model trained elsewhere that the recipe builds on.
        threads: CPU threads; 0 is all.
        cpu: Do not use a GPU.
        resume: Go on from the last checkpoint.
    """
    pairs = [pair.partition("=") for pair in model]
    for name, equals, folder in pairs:
        if not (name and equals and folder):
            raise ValueError(f"--model takes RECIPE=FOLDER, got {name + equals + folder!r}")

    import torch

    from smalti.training.stages import Place
    from smalti.training.stages import train as run

    if threads:
        torch.set_num_threads(threads)
    models = {name: Path(folder) for name, _, folder in pairs}
    place = Place(out=out, data=data, networks=networks, models=models, cpu=cpu, resume=resume)
    try:
        run(recipe, place, setting=setting, overrides=list(set))
    except FloatingPointError as error:  # the loss stayed NaN
        raise ValueError(str(error)) from error


def main(arguments: Sequence[str]) -> int:
    """Entry of the verb."""
    return call(train, "train", arguments)
