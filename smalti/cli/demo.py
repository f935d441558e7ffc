"""`smalti demo`: the main job from end to end, shown as a page."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from smalti.cli import call
from smalti.cli.console import load_generator, load_tokenizer, print_json
from smalti.cli.reconstruct import print_budgets


def demo(
    *,
    prompt: Annotated[tuple[str, ...], arg(metavar="TEXT [TEXT ...]")] = (),
    out: Path = Path("smalti-demo"),
    seed: int = 0,
    tokenizer: str = "mini/var",
    generator: str = "mini/var-gen",
    refiner: str = "mini/var-refiner",
    handover: int | None = None,
    device: str = "cpu",
    json: bool = False,
) -> None:
    """Reconstruct, generate and score with the packaged models; write a page.

    Tokenizes the packaged sample images and reconstructs them at every budget, generates images from classes and
    texts, compares drafter + refiner with the drafter alone, and writes report.html, metrics.json and every picture.

    Args:
        prompt: Texts to draw instead of the ones of the demo, each in quotes.
        out: Folder to write.
        seed: Seed of the first image of every row; the next ones count up.
        tokenizer: Model name, file or folder.
        generator: Model name, file or folder.
        refiner: The generator that takes over from the first; "none" leaves the comparison out.
        handover: Steps that the first generator makes; default: as in the pair known by name, else two thirds of them.
        device: Where to compute: cpu, cuda, mps.
        json: Print the numbers as JSON.
    """
    if seed < 0:
        raise ValueError(f"seed must not be negative, got {seed}")
    if any(not text.strip() for text in prompt):
        raise ValueError('a prompt is empty: write for example --prompt "a red apple"')

    import time

    from smalti.eval.demo import PROMPTS, run_demo
    from smalti.eval.demo_files import metrics, write_demo
    from smalti.eval.environment import environment

    start = time.perf_counter()
    second = None if refiner == "none" else load_generator(refiner, device)
    result = run_demo(
        load_tokenizer(tokenizer, device),
        load_generator(generator, device),
        second,
        handover=handover,
        prompts=prompt or PROMPTS,
        seed=seed,
    )
    texts = f" --prompt {shlex.join(prompt)}" if prompt else ""
    report = write_demo(result, out, command=f"smalti demo{texts} --seed {seed}")
    if json:
        print_json(metrics(result, environment()) | {"report": str(report)})
        return
    print_budgets(result.sweep.rows)
    made = result.hand_over
    if made is not None:
        print(
            f"\n{made.drafter} alone {made.seconds_alone:.2f} s, with {made.refiner} from step {made.handover} of "
            f"{made.steps} {made.seconds_together:.2f} s for {len(made.labels)} images; "
            f"mean difference {255 * made.difference:.1f} of 255"
        )
    print(f"\n{report} ({time.perf_counter() - start:.0f} s)")


def main(arguments: Sequence[str]) -> int:
    """Entry of the verb."""
    return call(demo, "demo", arguments)
