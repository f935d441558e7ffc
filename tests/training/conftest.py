"""A small bank of drawn shapes, a text encoder of hashed words, and tiny versions of the shipped recipes."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageDraw

from smalti.data.bank import pack
from smalti.data.counter import seed_of
from smalti.data.folder import FIELDS

SHAPES = ("disc", "box", "bar", "ring")
COLORS = {"red": (220, 30, 30), "green": (30, 160, 60), "blue": (40, 60, 220)}
TINY_TOKENIZER = (
    "model.channels=8",
    "model.patch=2",
    "model.multipliers=[1,1,2]",
    "model.res_blocks=1",
    "model.norm_groups=4",
    "model.vocab=64",
    "model.latent_channels=8",
    "objective.perceptual=0",
    "objective.revive_every=5",
)
TINY_GENERATOR = ("model.depth=2", "model.width=32", "model.heads=2", "model.vocab=64", "model.latent_channels=8")
SHORT = (
    "training.minutes=null",
    "training.batch=8",
    "training.evaluations=0",
    "training.log_every=2",
    "training.warmup=2",
)


class WordEncoder:
    """Texts as the mean of one fixed random vector per word."""

    width, fingerprint = 16, "words"

    def encode(self, texts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        rows = []
        for text in texts:
            words = text.lower().replace(",", " ").split()
            if not words:
                raise ValueError("an empty text asks for nothing")
            vectors = [torch.randn(16, generator=torch.Generator().manual_seed(seed_of(w))) for w in words]
            rows.append(torch.stack(vectors).mean(0))
        return torch.stack(rows)[:, None], torch.ones(len(texts), 1, dtype=torch.bool)


def draw(shape: str, color: tuple[int, int, int], size: int) -> Image.Image:
    image = Image.new("RGB", (size, size), "white")
    pen, box = ImageDraw.Draw(image), (size // 5, size // 5, size * 4 // 5, size * 4 // 5)
    match shape:
        case "disc":
            pen.ellipse(box, fill=color)
        case "box":
            pen.rectangle(box, fill=color)
        case "bar":
            pen.rectangle((size // 5, size * 2 // 5, size * 4 // 5, size * 3 // 5), fill=color)
        case _:
            pen.ellipse(box, outline=color, width=size // 10)
    return image


def write_folder(folder: Path, images: list[tuple[Image.Image, dict]]) -> Path:
    (folder / "images").mkdir(parents=True)
    lines = []
    for i, (image, fields) in enumerate(images):
        image.save(folder / "images" / f"{i}.png")
        empty = {key: [] if key == "keywords" else "" for key in FIELDS}
        lines.append(json.dumps({**empty, "file": f"images/{i}.png", **fields}))
    (folder / "metadata.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def emoji_images() -> list[tuple[Image.Image, dict]]:
    images = []
    for i, (shape, (name, color)) in enumerate((s, c) for s in SHAPES for c in COLORS.items()):
        for artist in ("fluent3d", "noto"):
            pair = i % 5 == 1 and artist == "noto"
            split, generator = ("pair", "pair") if pair else ("heldout", "unseen") if i % 6 == 5 else ("train", "train")
            fields = {
                "artist": artist,
                "class": "round" if shape in ("disc", "ring") else "straight",
                "subclass": shape,
            }
            fields |= {"caption": f"{name} {shape}", "keywords": ["figure"], "codepoint": f"{i:04x}"}
            images.append((draw(shape, color, 96), {**fields, "split_tokenizer": split, "split_generator": generator}))
    return images


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Tiny models are faster on one thread than on many."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def folders(tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("prepared")
    photo = {"class": "photo", "caption": "a slope"}
    slope = Image.linear_gradient("L").resize((160, 128)).convert("RGB")
    text = {"class": "text", "caption": "words"}
    both = ("train", "heldout")
    return {
        "emoji": write_folder(root / "emoji", emoji_images()),
        "photos": write_folder(root / "photos", [(slope, {**photo, "split_tokenizer": s}) for s in both]),
        "text": write_folder(
            root / "text", [(draw("bar", (0, 0, 0), 96), {**text, "split_tokenizer": s}) for s in both]
        ),
    }


@pytest.fixture(scope="session")
def bank_file(folders, tmp_path_factory) -> Path:
    return pack(folders, tmp_path_factory.mktemp("bank") / "bank.safetensors")
