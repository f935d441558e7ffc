"""Readers of text that work offline: RapidOCR, whose wheel carries its models, and Tesseract where it is installed.

Every image is enlarged twice (bicubic) first: at a font size of 8 px that takes Tesseract from nothing to nearly all.
"""

import csv
import hashlib
import importlib.util
import io
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from smalti.images import to_uint8

ENGINES = ("rapidocr", "tesseract")
INSTALL = 'pip install "smalti[eval]"'
SCALE = 2
"""Enlargement before reading."""
REMEMBERED = 50_000
"""Readings kept: the originals of a task are read once for all tokenizers."""
LANGUAGES = {"latin": "eng", "chinese": "chi_sim", "japanese": "jpn", "korean": "kor", "hindi": "hin"}
"""Tesseract's names."""
SEPARATOR = "\f"
Box = tuple[float, float, float, float]
BoxInPixels = tuple[int, int, int, int]
"""Left, top, right, bottom."""


class EngineMissingError(RuntimeError):
    """An engine that is not on this machine; the message says how to get it."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """A piece of text that an engine found, with its bounding box in pixels (left, top, right, bottom)."""

    text: str
    box: Box
    words: tuple["Found", ...] = ()
    """Its words in their order, where an engine finds lines; empty: it is one word."""


class Engine(Protocol):
    """What reads enlarged images, uint8 [h, w, 3] RGB."""

    label: str
    """Name and version."""

    def facts(self) -> dict[str, Any]:
        """Plain data: name, version, and all files that decide what is read."""
        ...

    def strings(self, images: Sequence[np.ndarray], script: str) -> list[str]:
        """The one string on each image; no reading depends on the other images."""
        ...

    def page(self, pixels: np.ndarray) -> list[Found]:
        """All that is found, in any order."""
        ...

    def reads(self, script: str, alphabet: Sequence[str]) -> bool:
        """Whether it knows the characters of a script."""
        ...


class Reader:
    """An engine with its memory: the same pixels are read once."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._memory: dict[str, Any] = {}

    @property
    def label(self) -> str:
        """Name and version of the engine."""
        return self.engine.label

    def reads(self, script: str, alphabet: Sequence[str]) -> bool:
        """Whether the engine knows the characters of a script."""
        return self.engine.reads(script, alphabet)

    def words(self, images: Tensor, boxes: Sequence[Sequence[BoxInPixels]], script: str = "latin") -> list[str]:
        """The string inside each known box (widened by 1 or 2 px) of images float [B, 3, H, W]: recognition only."""
        parts = [
            image[:, max(top - 1, 0) : bottom + 1, max(left - 2, 0) : right + 2]
            for image, places in zip(images, boxes, strict=True)
            for left, top, right, bottom in places
        ]
        return self._recalled(f"word {script}", parts, lambda pixels: self.engine.strings(pixels, script))

    def pages(self, images: Tensor) -> list[str]:
        """All text of images float [B, 3, H, W], found and read: line by line from the top, each from the left."""
        return self._recalled(
            "page", list(images), lambda pixels: [in_reading_order(self.engine.page(each)) for each in pixels]
        )

    def found(self, images: Tensor) -> list[list[Found]]:
        """All pieces of text on each of the images float [B, 3, H, W], boxes in their pixels, in any order."""
        return self._recalled(
            "found", list(images), lambda pixels: [[_shrunk(f) for f in self.engine.page(each)] for each in pixels]
        )

    def _recalled(self, how: str, images: list[Tensor], read: Callable[[list[np.ndarray]], list[Any]]) -> list[Any]:
        """What was read before from the memory, the rest by `read`."""
        if len(self._memory) + len(images) > REMEMBERED:
            self._memory.clear()
        pixels = [to_uint8(image[None])[0].permute(1, 2, 0).contiguous().numpy() for image in images]
        keys = [hashlib.sha256(f"{how} {p.shape}".encode() + p.tobytes()).hexdigest() for p in pixels]
        new = {key: each for key, each in zip(keys, pixels, strict=True) if key not in self._memory}
        if new:
            self._memory |= zip(new, read([enlarged(each) for each in new.values()]), strict=True)
        return [self._memory[key] for key in keys]


def enlarged(pixels: np.ndarray) -> np.ndarray:
    """uint8 [h, w, 3] at twice its size, bicubic."""
    image = Image.fromarray(pixels)
    size = (image.width * SCALE, image.height * SCALE)
    return np.asarray(image.resize(size, Image.Resampling.BICUBIC))


def words_of(found: Sequence[Found]) -> list[Found]:
    """The single words of all pieces."""
    return [word for piece in found for word in piece.words or (piece,)]


def in_reading_order(found: Sequence[Found]) -> str:
    """Pieces joined by lines: a piece belongs to a line if its middle lies within the height of the line's first.

    >>> boxes = {"world": (50, 1, 90, 11), "below": (0, 20, 40, 30), "hello": (0, 2, 40, 12)}
    >>> in_reading_order([Found(text=t, box=b) for t, b in boxes.items()])
    'hello world\\nbelow'
    """
    lines: list[list[Found]] = []
    for piece in sorted(found, key=lambda f: (f.box[1] + f.box[3], f.box[0])):
        middle = (piece.box[1] + piece.box[3]) / 2
        if lines and lines[-1][0].box[1] <= middle <= lines[-1][0].box[3]:
            lines[-1].append(piece)
        else:
            lines.append([piece])
    return "\n".join(" ".join(f.text for f in sorted(line, key=lambda f: f.box[0])) for line in lines)


@lru_cache(maxsize=4)
def reader(engine: str) -> Reader:
    """A reader by its name. Errors: ValueError for an unknown name; EngineMissingError with the way to get it."""
    if engine not in ENGINES:
        raise ValueError(f"text recognition engine {engine!r} is unknown; allowed: {', '.join(ENGINES)}")
    return Reader(RapidOcr() if engine == "rapidocr" else Tesseract())


class RapidOcr:
    """RapidOCR on onnxruntime, with the PP-OCR models inside its wheel; nothing is downloaded."""

    def __init__(self) -> None:
        missing = [m for m in ("rapidocr", "onnxruntime") if importlib.util.find_spec(m) is None]
        if missing:
            raise EngineMissingError(f"not installed: {', '.join(missing)}: {INSTALL}")
        from importlib.metadata import version

        import rapidocr

        folder = Path(rapidocr.__file__).parent / "models"
        models = {part: sorted(folder.glob(f"*_{part}_*.onnx")) for part in ("det", "rec")}
        if not all(models.values()):
            raise EngineMissingError(f"this rapidocr has no models inside and would download them: {INSTALL} --upgrade")
        threads = torch.get_num_threads()
        self._run: Any = rapidocr.RapidOCR(
            params={
                "Global.log_level": "error",
                "EngineConfig.onnxruntime.intra_op_num_threads": threads,
                "EngineConfig.onnxruntime.inter_op_num_threads": 1,
                "Det.model_path": str(models["det"][-1]),
                "Rec.model_path": str(models["rec"][-1]),
            }
        )
        self.label = f"rapidocr {version('rapidocr')} ({models['rec'][-1].stem})"
        self._files = {"detection": models["det"][-1], "recognition": models["rec"][-1]}

    def facts(self) -> dict[str, Any]:
        """Package, runtime, and both models with their sha256."""
        from importlib.metadata import version

        files = {part: {"file": file.name, "sha256": _sha256(file)} for part, file in self._files.items()}
        runtime = f"onnxruntime {version('onnxruntime')}"
        return {"name": "rapidocr", "version": version("rapidocr"), "runtime": runtime, **files}

    def strings(self, images: Sequence[np.ndarray], script: str) -> list[str]:
        """The one string on each image; `script` changes nothing: one model reads all it knows.

        One image a call: in a batch each would be padded to the widest.
        """
        how = {"use_det": False, "use_cls": False, "use_rec": True, "return_word_box": False}
        results = [self._run(_bgr(pixels), **how) for pixels in images]
        return [" ".join(result.txts or ()) for result in results]

    def page(self, pixels: np.ndarray) -> list[Found]:
        """Lines of text and their words, boxes in pixels of the enlarged image; upright text only.

        Boxes of words are where the recognition model saw their characters, as high as the line.
        """
        result = self._run(_bgr(pixels), use_det=True, use_cls=False, use_rec=True, return_word_box=True)
        if result.boxes is None or result.txts is None:
            return []
        lines = zip(result.txts, result.boxes, result.word_results, strict=True)
        return [Found(text=text, box=_around(box), words=_words(text, units)) for text, box, units in lines]

    def reads(self, script: str, alphabet: Sequence[str]) -> bool:
        """Whether all characters are among those the recognition model can give."""
        return set("".join(alphabet)) <= self._characters()

    @lru_cache(maxsize=1)  # noqa: B019 - one engine lives as long as the program
    def _characters(self) -> frozenset[str]:
        self.strings([np.full((32, 64, 3), 255, np.uint8)], "latin")  # the model is loaded at its first use
        return frozenset(self._run.text_rec.postprocess_op.character)


class Tesseract:
    """The program `tesseract`."""

    def __init__(self) -> None:
        program = shutil.which("tesseract")
        if program is None:
            way = "apt-get install tesseract-ocr, or your system's package of that name"
            raise EngineMissingError(f"no program tesseract on the path: {way}")
        self._program = program
        listed = self._called(["--list-langs"], b"").splitlines()
        self._languages = frozenset(line.strip() for line in listed[1:])
        self.label = self._called(["--version"], b"").splitlines()[0]
        if "eng" not in self._languages:
            raise EngineMissingError("tesseract has no English data: apt-get install tesseract-ocr-eng")

    def facts(self) -> dict[str, Any]:
        """Program and the languages it has data for."""
        name, _, version = self.label.partition(" ")
        return {"name": name, "version": version, "languages": sorted(self._languages)}

    def strings(self, images: Sequence[np.ndarray], script: str) -> list[str]:
        """The one line on each image, read with the language data of the script; one call for all."""
        with tempfile.TemporaryDirectory() as folder:
            names = [Path(folder) / f"{i:06d}.png" for i in range(len(images))]
            for name, pixels in zip(names, images, strict=True):
                name.write_bytes(_png(pixels))
            listed = "\n".join(map(str, names)).encode()
            arguments = ["--psm", "7", "-l", LANGUAGES[script], "-c", f"page_separator={SEPARATOR}"]
            texts = self._called(["stdin", "stdout", *arguments], listed).split(SEPARATOR)
        if len(texts) == len(images) + 1 and not texts[-1].strip():
            texts = texts[:-1]  # some versions also end the last page with a separator
        if len(texts) != len(images):
            raise RuntimeError(f"tesseract gave {len(texts)} texts for {len(images)} images")
        return [text.strip() for text in texts]

    def page(self, pixels: np.ndarray) -> list[Found]:
        """Words with boxes in pixels of the enlarged image."""
        table = self._called(["stdin", "stdout", "--psm", "11", "-l", "eng", "tsv"], _png(pixels))
        found = []
        for row in csv.DictReader(io.StringIO(table), delimiter="\t", quoting=csv.QUOTE_NONE):
            if (row["text"] or "").strip():
                left, top, width, height = (float(row[k]) for k in ("left", "top", "width", "height"))
                found.append(Found(text=row["text"].strip(), box=(left, top, left + width, top + height)))
        return found

    def reads(self, script: str, alphabet: Sequence[str]) -> bool:
        """Whether the language data of the script is installed."""
        return LANGUAGES.get(script) in self._languages

    def _called(self, arguments: list[str], given: bytes) -> str:
        done = subprocess.run([self._program, *arguments], input=given, capture_output=True, check=False)
        if done.returncode:
            raise RuntimeError(f"tesseract {' '.join(arguments)} failed: {done.stderr.decode(errors='replace')[-300:]}")
        return done.stdout.decode("utf-8", errors="replace")


def _bgr(pixels: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(pixels[:, :, ::-1])


def _around(corners: Any) -> Box:
    points = np.asarray(corners, dtype=float)
    (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
    return float(left), float(top), float(right), float(bottom)


def _words(line: str, units: Sequence[tuple[str, float, Any]]) -> tuple[Found, ...]:
    """The words of a line, each around the units of RapidOCR (words, parts of them, or characters) that spell it."""
    left, found = list(units), []
    for word in line.split():
        spelled, boxes = "", []
        while len(spelled) < len(word) and left:
            text, _, corners = left.pop(0)
            spelled += text
            boxes += list(corners)
        if spelled != word:
            raise RuntimeError(f"rapidocr gave boxes for {[u[0] for u in units]}, which do not spell {line!r}")
        found.append(Found(text=word, box=_around(boxes)))
    return tuple(found)


def _shrunk(piece: Found) -> Found:
    """A piece of an enlarged image in pixels of the image."""
    left, top, right, bottom = (edge / SCALE for edge in piece.box)
    return Found(text=piece.text, box=(left, top, right, bottom), words=tuple(_shrunk(w) for w in piece.words))


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="PNG", dpi=(150, 150))
    return stream.getvalue()
