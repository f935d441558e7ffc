"""Proves that the demo runs from end to end on tiny models, and that its report is one whole, safe, correct page."""

import json
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from PIL import Image

from smalti.data.sample_images import samples
from smalti.eval.demo import Demo, compare_hand_over, run_demo
from smalti.eval.demo_files import SCHEMA, file_name, write_demo
from smalti.eval.environment import environment
from smalti.eval.report import overview
from smalti.eval.report.demo_page import demo_page
from smalti.eval.report.plot import nice_ticks
from smalti.images import read_images, to_pil
from smalti.pipeline import ImageGenerator
from smalti.text import packaged
from tests.tiny.var import tiny_var_generator, tiny_var_tokenizer

EVIL = 'a <b>red</b> "apple" & co'
NAMES = ("cat", "dog", "<i>fish</i>", "tree", "house")


def tiny_generator(name: str, tokenizer: torch.nn.Module, text: bool = True) -> ImageGenerator:
    """A generator with five classes, and text if wanted."""
    encoder = packaged() if text else None
    return ImageGenerator(
        generator=tiny_var_generator(text_features=packaged().width if text else 0),
        tokenizer=tokenizer,  # type: ignore[arg-type]
        text_encoder=encoder,
        classes=NAMES,
        name=name,
        license="Apache-2.0",
    )


@pytest.fixture(scope="module")
def demo() -> Demo:
    """A run on the packaged samples, in which one prompt and one class name hold markup."""
    tokenizer = tiny_var_tokenizer()
    tokenizer.name = "tiny/var"
    first, second = (tiny_generator(f"tiny/{n}", tokenizer) for n in ("gen", "refiner"))
    return run_demo(tokenizer, first, second, prompts=["a red apple", EVIL], seed=5)


@pytest.fixture(scope="module")
def folder(demo: Demo, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What it writes."""
    out = tmp_path_factory.mktemp("demo")
    assert write_demo(demo, out, command="smalti demo <test>") == out / "report.html"
    return out


class Page(HTMLParser):
    """Collects what a browser would load, and checks that tags are balanced."""

    VOID = ("meta", "img", "line", "circle", "polyline", "polygon", "rect")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.tags: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Remembers the tag and everything that could be loaded."""
        self.tags.append(tag)
        values = dict(attrs)
        self.links += [str(values[k]) for k in ("src", "href", "srcset", "data", "action") if k in values]
        if tag == "img":
            self.images.append(values)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """<rect/> and its like."""
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Tags close in order."""
        assert self.open.pop() == tag


def test_every_picture_is_written(demo: Demo, folder: Path) -> None:
    """A PNG for each sample and budget, class, text, and side of the comparison; the same pixels as computed."""
    entries, budgets = samples(), [row.tokens for row in demo.sweep.rows]
    written = sorted(p.name for p in (folder / "reconstructions").iterdir())
    assert written == sorted(f"{s.path.stem}-{k:04d}.png" for s in entries for k in budgets)
    assert len(list((folder / "generated").glob("class-*.png"))) == 5 * 4
    assert len(list((folder / "generated").glob("text-*.png"))) == 2 * 8
    assert len(list((folder / "generated").glob("drafter-*.png"))) == 8
    name = f"{entries[3].path.stem}-{budgets[1]:04d}.png"
    torch.testing.assert_close(
        read_images(folder / "reconstructions" / name)[0], demo.sweep.reconstructions[1][3], rtol=0, atol=1e-6
    )


def test_overview_holds_the_pictures(demo: Demo, folder: Path) -> None:
    """A strip begins with its original, enlarged; a row of words ends with its last image."""
    page = read_images(folder / "overview.png")
    left, top = overview.MARGIN + overview.LEFT, overview.MARGIN + overview.HEAD
    first = page[..., top : top + overview.CELL, left : left + overview.CELL]
    original = to_pil(demo.originals[0]).resize((overview.CELL, overview.CELL), Image.Resampling.BICUBIC)
    torch.testing.assert_close(first, read_images(original), rtol=0, atol=1e-6)
    assert page.shape[-2] == 2 * overview.MARGIN + 2 * overview.HEAD + 7 * (overview.CELL + overview.GAP)


def test_metrics_json(demo: Demo, folder: Path) -> None:
    """A named schema; per budget and image the numbers of the run."""
    data = json.loads((folder / "metrics.json").read_text())
    assert data["schema"] == SCHEMA
    assert [row["tokens"] for row in data["budgets"]] == [1, 5, 14, 30]
    mean = sum(image["budgets"][-1]["psnr"] for image in data["images"]) / len(data["images"])
    assert mean == pytest.approx(data["budgets"][-1]["metrics"]["psnr"]["tokenizer"]["value"])
    assert data["hand_over"]["handover"] == 2
    assert data["hand_over"]["mean_absolute_difference"] == demo.hand_over.difference  # type: ignore[union-attr]
    assert [m["role"] for m in data["models"]] == ["tokenizer", "generator", "refiner"]
    assert data["protocol"]
    assert data["environment"]["threads"] == torch.get_num_threads()


def test_the_report_is_one_file(folder: Path) -> None:
    """Nothing is loaded from anywhere, nothing runs, tags are balanced, every image has a text."""
    text = (folder / "report.html").read_text()
    page = Page(text)
    assert page.open == []
    assert page.links
    assert all(link.startswith("data:image/png;base64,") for link in page.links)
    assert all(image["alt"] for image in page.images)
    assert not {"script", "iframe", "link", "object", "embed", "form"} & set(page.tags)
    assert not re.search(r"url\(|@import|https?:", text)
    assert 'name="viewport"' in text
    assert "prefers-color-scheme: dark" in text


def test_the_report_escapes_what_comes_from_outside(folder: Path) -> None:
    """Prompts, class names and the command are shown, not interpreted."""
    text = (folder / "report.html").read_text()
    assert "<b>" not in text
    assert "<i>" not in text
    assert "a &lt;b&gt;red&lt;/b&gt; &quot;apple&quot; &amp; co" in text
    assert "&lt;i&gt;fish&lt;/i&gt;" in text
    assert "smalti demo &lt;test&gt;" in text


def test_the_report_shows_the_numbers(demo: Demo, folder: Path) -> None:
    """The table holds each row, each strip all its budgets, and provenance every license."""
    text = (folder / "report.html").read_text()
    for row in demo.sweep.rows:
        assert f"<td>{row.metrics['psnr'].tokenizer.value:.2f}</td>" in text
    assert text.count('class="strip"') == len(samples())
    assert text.count('<figure class="thumb">') == len(samples())
    for sample in samples():
        assert sample.license in text
    assert "not selected" not in text


def test_plots_and_mosaics_are_valid_svg(folder: Path) -> None:
    """Two plots and a mosaic a map, with one tile a token."""
    drawings = re.findall(r"<svg.*?</svg>", (folder / "report.html").read_text())
    roots = [ElementTree.fromstring(d) for d in drawings]
    assert [len(root.findall("rect")) for root in roots[:4]] == [1, 4, 9, 16]
    plots = roots[4:]
    assert len(plots) == 2
    for plot in plots:
        assert len(plot.findall("polyline")) == 2
        width, height = (float(v) for v in plot.attrib["viewBox"].split()[2:])
        for dot in plot.findall("circle"):
            assert 0 <= float(dot.attrib["cx"]) <= width
            assert 0 <= float(dot.attrib["cy"]) <= height


def test_without_text_and_refiner() -> None:
    """A generator of classes alone gives a shorter page, not an error; its own prompts do."""
    tokenizer = tiny_var_tokenizer()
    generator = tiny_generator("tiny/classes", tokenizer, text=False)
    demo = run_demo(tokenizer, generator, classes=["dog"])
    assert demo.by_text == []
    assert demo.hand_over is None
    page = demo_page(demo, environment())
    assert "Generated from text" not in page
    assert "for 4 images of a class" in page
    with pytest.raises(ValueError, match="classes only"):
        run_demo(tokenizer, generator, prompts=["a red apple"])


def test_hand_over_at_the_ends_is_one_model() -> None:
    """All steps by the drafter: no difference. None: the refiner's images."""
    tokenizer = tiny_var_tokenizer()
    drafter, refiner = (tiny_generator(n, tokenizer, text=False) for n in ("a", "b"))
    for p in refiner.generator.parameters():
        torch.nn.init.normal_(p, std=0.5)
    whole = compare_hand_over(drafter, refiner, 4, classes=[0, 1])
    assert whole.difference == 0
    none = compare_hand_over(drafter, refiner, 0, classes=[0, 1])
    expected = refiner.generate(classes=[0, 1] * 4, seed=0).images
    torch.testing.assert_close(none.together, expected)
    assert none.difference > 0


def test_names_and_ticks() -> None:
    """File names hold plain characters only; ticks enclose the data in round steps."""
    assert file_name("../A red  apple/..") == "a-red-apple"
    assert file_name("§") == "image"
    assert nice_ticks(0.33, 0.91) == [0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
