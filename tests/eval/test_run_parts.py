"""Proves that detail and text go on after a kill: finished parts are never made again, and the result is the same to
the last bit, pictures too.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from smalti.eval.detail.result import Curve, Part, Picture, Quantity, Skipped
from smalti.eval.run.evaluate import Settings, evaluate_tokenizers
from smalti.eval.run.parts import PartStore
from smalti.eval.run.result import plain_data
from smalti.eval.run.sources import folder
from smalti.eval.run.suites import Suite
from smalti.eval.tasks import detail as detail_task
from smalti.eval.tasks import text as text_task
from smalti.hub import load
from smalti.images import write_image
from smalti.tokenizers.base import Tokenizer

pytest.importorskip("rapidocr")
SUITE = Suite(detail=True, text=True, quick=True)
PLAIN = Settings(networks=False, budgets=(14,), baselines=False)


def a_part(name: str) -> Part:
    """Values that break easily: no short decimals, none at all, an empty text."""
    return Part(
        quantities=(Quantity(name=name, value=0.1 + 0.2, low=None, high=1 / 3, n=3, unit="", better="lower"),),
        curves=(
            Curve(
                name="c",
                title="C",
                x=(1, 2.5),
                x_unit="px",
                y=(1e-17, 7.0),
                y_unit="",
                low=(0.0, -0.0),
                high=(1.0, 2.0),
            ),
        ),
        pictures=tuple(
            Picture(name=f"{name}{i}", title=name, original=torch.rand(3, 4, 5), reconstruction=torch.rand(3, 4, 5))
            for i in range(11)
        ),
        skipped=(Skipped(metric="m", reason="ünicode"),),
        images=7,
    )


def test_a_part_is_kept_whole(tmp_path: Path) -> None:
    """Numbers, curves and pictures in their order come back equal, in a second store as in the first; made once."""
    made: list[Part] = []

    def make() -> Part:
        made.append(a_part("a"))
        return made[-1]

    for _ in range(2):
        found = PartStore(tmp_path / "work", {"seed": 0}, ("a", "b")).part("a", make)
        assert len(made) == 1
        (first,) = made
        assert found.quantities == first.quantities and found.skipped == first.skipped and found.images == 7
        assert found.curves == first.curves and isinstance(found.curves[0].x[0], int)
        assert [p.name for p in found.pictures] == [p.name for p in first.pictures]
        for ours, theirs in zip(found.pictures, first.pictures, strict=True):
            assert torch.equal(ours.original, theirs.original)
            assert torch.equal(ours.reconstruction, theirs.reconstruction)


def test_leftovers_of_another_run_are_refused_and_damaged_ones_made_again(tmp_path: Path) -> None:
    """Another seed, other parts; a file cut short counts as missing."""
    store = PartStore(tmp_path, {"seed": 0}, ("a", "b"))
    store.part("b", lambda: a_part("b"))
    for settings, names in (({"seed": 1}, ("a", "b")), ({"seed": 0}, ("b", "a"))):
        with pytest.raises(ValueError, match="unfinished run with other settings"):
            PartStore(tmp_path, settings, names)
    (file,) = tmp_path.glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:-9])
    assert store.part("b", lambda: a_part("new")).quantities[0].name == "new"


@pytest.fixture
def few_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two quick parts of each task, one page of each kind."""
    monkeypatch.setattr("smalti.eval.tasks.text_parts.setup.QUICK_PAGES", 1)
    for task, names in ((detail_task, ("colors", "lines")), (text_task, ("posters", "documents"))):
        monkeypatch.setattr(task, "PARTS", {name: task.PARTS[name] for name in names})


@pytest.fixture(scope="module")
def mini() -> Tokenizer:
    """The packaged tokenizer."""
    model = load("mini/var")
    assert isinstance(model, Tokenizer)
    return model


class Killed(BaseException):
    """Stops a run as Ctrl-C does."""


class Counting:
    """The reconstruction of a run, counted; dies at the call `last`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from smalti.eval.run import evaluate

        self.calls, self.last = 0, 10**9
        make = evaluate.reconstructor

        def watched(tokenizer: Tokenizer, budget: int):
            inner = make(tokenizer, budget)

            def reconstruct(images: torch.Tensor) -> torch.Tensor:
                self.calls += 1
                if self.calls > self.last:
                    raise Killed
                return inner(images)

            return reconstruct

        monkeypatch.setattr(evaluate, "reconstructor", watched)

    def spent(self) -> int:
        """Calls since the last question."""
        calls, self.calls = self.calls, 0
        return calls


def plain(run: Path) -> Iterator[object]:
    """metrics.json without what depends on the clock, and all pictures."""
    data = json.loads((run / "metrics.json").read_text())
    for row in data["rows"]:
        del row["timing"]
    yield data
    yield {p.name: p.read_bytes() for p in sorted((run / "pictures").iterdir())}


@pytest.mark.usefixtures("few_parts")
def test_a_run_goes_on_after_its_last_finished_part(mini: Tokenizer, tmp_path: Path, monkeypatch) -> None:
    """Killed inside every part but the first in turn: each call of the tokenizer for finished parts is made once."""
    write_image(torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0)), tmp_path / "images" / "0.png")
    source, counting = folder(tmp_path / "images"), Counting(monkeypatch)
    marks: dict[str, int] = {}
    with monkeypatch.context() as patch:
        write = PartStore.part

        def marked(self: PartStore, name: str, make) -> Part:
            marks[name] = counting.calls
            return write(self, name, make)

        patch.setattr(PartStore, "part", marked)
        evaluate_tokenizers([mini], source, SUITE, tmp_path / "whole", PLAIN, "test")
    whole = counting.spent()
    assert list(marks) == ["colors", "lines", "posters", "documents"] and marks["colors"] == 0
    expected = list(plain(tmp_path / "whole"))
    killed = tmp_path / "killed"
    done = 0
    for name in ("lines", "posters", "documents"):
        counting.last = marks[name] - done
        with pytest.raises(Killed):
            evaluate_tokenizers([mini], source, SUITE, killed, PLAIN, "test")
        assert counting.spent() == marks[name] - done + 1, "no part before was made again"
        assert not (killed / "metrics.json").exists()
        done = marks[name]
    counting.last = 10**9
    result = evaluate_tokenizers([mini], source, SUITE, killed, PLAIN, "test")
    assert counting.spent() == whole - done
    assert list(plain(killed)) == expected
    assert json.loads((killed / "metrics.json").read_text())["rows"][0]["tasks"] == plain_data(result.rows[0].tasks)
    with pytest.raises(ValueError, match="unfinished run with other settings"):
        evaluate_tokenizers([mini], source, Suite(detail=True, quick=False), killed, PLAIN, "test")
