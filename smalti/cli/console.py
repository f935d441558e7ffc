"""What the verbs share: tables and JSON on standard output, image lists, loading by role."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from smalti.pipeline import ImageGenerator
    from smalti.tokenizers.base import Tokenizer

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".gif", ".avif", ".jp2", ".tga", ".qoi")


def print_json(data: Any) -> None:
    """Plain data for machines; what JSON does not know (paths, configs) as text."""
    print(json.dumps(data, indent=2, ensure_ascii=False, default=str))


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]], texts: int = 1) -> None:
    """Aligned columns; the first `texts` of them to the left, the others, which hold numbers, to the right."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    for row in [header, ["-" * w for w in widths], *rows]:
        cells = [c.ljust(w) if i < texts else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))]
        print("  ".join(cells).rstrip())


def print_facts(facts: Sequence[tuple[str, str]]) -> None:
    """Names and values in two columns; values of several lines are indented."""
    width = max(len(name) for name, _ in facts)
    for name, value in facts:
        first, *rest = value.splitlines() or [""]
        print(f"{name.ljust(width)}  {first}")
        for line in rest:
            print(f"{'':{width}}  {line}")


def image_paths(images: Sequence[Path]) -> list[Path]:
    """The files named, and of every folder named the image files directly inside, sorted by name."""
    if not images:
        raise ValueError("no images: give one or more image files or folders")
    paths: list[Path] = []
    for path in images:
        if not path.is_dir():
            paths.append(path)
            continue
        inside = sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file())
        if not inside:
            raise ValueError(f"folder {path} holds no image files ({', '.join(SUFFIXES)})")
        paths += inside
    return paths


def load_tokenizer(name: str, device: str = "cpu", window: int | None = None) -> "Tokenizer":
    """A tokenizer by name, file or folder; of a generator its tokenizer. `window`: in windows of so many pixels."""
    import smalti
    from smalti.pipeline import ImageGenerator
    from smalti.tokenizers.windows import WindowedTokenizer

    model = smalti.load(name, device=device)
    tokenizer = model.tokenizer if isinstance(model, ImageGenerator) else model
    return tokenizer if window is None else WindowedTokenizer(tokenizer, window=window)


Dtype = Literal["float32", "bfloat16", "float16"]


def load_generator(
    name: str,
    device: str = "cpu",
    dtype: Dtype = "float32",
    text_encoder: Path | None = None,
    compile: bool = False,
) -> "ImageGenerator":
    """A generator by name, file or folder; a ValueError for a tokenizer."""
    import torch

    import smalti
    from smalti.pipeline import ImageGenerator

    options: dict[str, Any] = {"dtype": getattr(torch, dtype), "text_encoder": text_encoder, "compile": compile}
    model = smalti.load(name, device=device, **options)
    if not isinstance(model, ImageGenerator):
        generators = ", ".join(smalti.list_models(role="generator")[:6])
        raise ValueError(f"{name} is a tokenizer and generates nothing by itself; generators: {generators}, ...")
    return model


def budget_list(text: str, legal: Sequence[int]) -> list[int]:
    """Budgets of a text such as "1,14,all", ascending; "all" is the whole sequence, "each" every legal one."""
    chosen: set[int] = set()
    for part in (p.strip() for p in text.split(",")):
        if part == "all":
            chosen.add(legal[-1])
        elif part == "each":
            chosen.update(legal)
        elif part.isdigit():
            chosen.add(int(part))
        else:
            raise ValueError(
                f'budget {part!r} is neither a number of tokens nor "all" nor "each": use --budget 1,14,all'
            )
    return sorted(chosen)


def unique_names(paths: Sequence[Path]) -> list[str]:
    """File stems as output names; the ones that occur twice get their number in the list."""
    stems = [p.stem for p in paths]
    return [stem if stems.count(stem) == 1 else f"{stem}-{i}" for i, stem in enumerate(stems)]
