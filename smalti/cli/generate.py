"""`smalti generate`: images from classes or texts."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from smalti.cli import call
from smalti.cli.console import Dtype, load_generator, print_json

if TYPE_CHECKING:
    from smalti.decoding.sampling import Sampling
    from smalti.pipeline import Generation, ImageGenerator


def generate(
    name: Positional[str] = "mini/var-gen",
    *,
    out: Path,
    classes: Annotated[tuple[str, ...], arg(name="class", metavar="CLASS [CLASS ...]")] = (),
    text: Annotated[tuple[str, ...], arg(metavar="TEXT [TEXT ...]")] = (),
    n: int = 1,
    seed: int = 0,
    guidance: float | None = None,
    temperature: float | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
    steps: int | None = None,
    budget: int | None = None,
    then: str | None = None,
    handover: int | None = None,
    save_steps: bool = False,
    text_encoder: Path | None = None,
    dtype: Dtype = "float32",
    compile: bool = False,
    device: str = "cpu",
    json: bool = False,
) -> None:
    """Images from classes or texts; with neither, of anything.

    Settings that are not given are the ones the model was published with.

    Args:
        name: Generator: model name, file or folder.
        out: Folder for 0000.png, ..., tokens.safetensors and generation.json.
        classes: Class names or numbers (`smalti info NAME` lists them).
        text: Texts, each in quotes.
        n: Images of every class or text.
        seed: Seed of the first image; the next ones count up.
        guidance: Guidance scale s in u + s (c - u); 1 is none.
        temperature: Divides the logits; 0 always takes the most likely token.
        top_k: Draw from the k most likely tokens; 0 is all.
        top_p: Draw from the fewest tokens that reach this probability; 1 is all.
        steps: Decoding steps, for a model that leaves their number open.
        budget: Stop after that many tokens.
        then: Generator that takes over (drafter + refiner), of the same tokenizer.
        handover: Steps before it does.
        save_steps: Also write the images after every step, as 0000-step01.png, ...
        text_encoder: Folder of the text encoder, for models asked by text whose encoder is not in the package.
        dtype: Of the generator's weights: float32, bfloat16, float16.
        compile: Run the generator's blocks through torch.compile: the same up to rounding, the first images slower.
        device: Where to compute: cpu, cuda, mps.
        json: Print JSON.
    """
    for words in (*classes, *text):
        if not words.strip():
            raise ValueError('a class or text is empty: write for example --text "a red apple"')
    if seed < 0:
        raise ValueError(f"seed must not be negative, got {seed}")
    generator = load_generator(name, device, dtype, text_encoder, compile)
    if steps is not None:
        generator = generator.with_steps(steps)
    options: dict[str, Any] = {
        "classes": list(classes) or None,
        "text": list(text) or None,
        "n": n,
        "seed": seed,
        "guidance": guidance,
        "sampling": sampling_of(generator, temperature=temperature, top_k=top_k, top_p=top_p),
        "then": load_generator(then, device, dtype, compile=compile) if then else None,
        "handover": handover,
        "budget": budget,
    }

    from smalti.files import write_json
    from smalti.images import write_images

    made = generator.generate(**options)
    images = write_images(made.images.cpu(), out)
    if save_steps:
        for step in generator.stream(**options):
            names = [f"{path.stem}-step{step.step + 1:02d}" for path in images]
            write_images(step.images.cpu(), out, names=names)
    made.tokens.to("cpu").save(out / "tokens.safetensors")
    facts = {**made.provenance, "budget": budget, "files": [path.name for path in images]}
    write_json(out / "generation.json", facts)
    if json:
        print_json({**facts, "out": str(out)})
        return
    print(f"settings: {settings_line(made)}")
    print(f"{out}: {len(images)} {'image' if len(images) == 1 else 'images'} ({generator.name}, seed {seed})")


def sampling_of(generator: "ImageGenerator", **changes: Any) -> "Sampling | None":
    """The generator's own sampling with what was asked for; None if nothing was."""
    asked = {key: value for key, value in changes.items() if value is not None}
    return replace(generator.settings.sampling, **asked) if asked else None


def settings_line(made: "Generation") -> str:
    """Sampler settings and number of steps, for people."""
    steps = made.provenance["steps"]
    return f"{made.settings}, {steps} {'step' if steps == 1 else 'steps'}"


def main(arguments: Sequence[str]) -> int:
    """Entry of the verb."""
    return call(generate, "generate", arguments)
