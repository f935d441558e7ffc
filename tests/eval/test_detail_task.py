"""Proves the identities of the detail task: a perfect copy, a Gaussian blur, nothing kept, any order, bad input."""

import json
import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from smalti.eval.detail.charts import dead_leaves, rng
from smalti.eval.detail.glyph_acuity import DIGITS
from smalti.eval.detail.result import DetailResult, curve, quantity
from smalti.eval.tasks.detail import PARTS, detail
from smalti.eval.tasks.detail_parts.acuity import glyphs
from smalti.eval.tasks.detail_parts.setup import Setup
from smalti.images import to_uint8

SIGMA = 1.0


def blur(images: Tensor) -> Tensor:
    """Gaussian blur of SIGMA pixels, borders repeated, not rounded."""
    at = torch.arange(-6, 7).double()
    kernel = torch.exp(-at.square() / (2 * SIGMA**2))
    kernel = (kernel / kernel.sum()).expand(3, 1, 1, -1)
    padded = F.pad(images.double(), (6, 6, 6, 6), mode="replicate")
    rows = F.conv2d(padded, kernel, groups=3)
    return F.conv2d(rows, kernel.transpose(2, 3), groups=3).float().clamp(0, 1)


@pytest.fixture(scope="module")
def perfect() -> DetailResult:
    """Everything through a perfect copy."""
    return detail(lambda x: x, 64, stride=8, quick=True, seed=0)


def test_a_perfect_copy_is_perfect(perfect) -> None:
    """Every value is at its best, every band closed, and nothing is skipped."""
    best = {"mtf_at_1/2": 1, "edge_overshoot": 0, "edge_shift": 0, "hallucinated_energy": 0, "edges_lost": 0}
    best |= {"line_contrast_1px": 1, "line_continuity_1px": 1, "noise_floor": 0, "blockiness": 1, "reencoding_loss": 0}
    best |= {"contrast_dead_leaves": 1, "color_difference_8px": 0, "shift_psnr_half_token": 100, "landolt_threshold": 1}
    for name, value in best.items():
        assert perfect.quantity(name).value == pytest.approx(value, abs=1e-6), name
    for name in ("mtf50", "f50", "f50_blue_yellow", "frc50_noise"):
        assert perfect.quantity(name).value is None and "not reached" in perfect.quantity(name).note
    assert perfect.quantity("landolt_smallest_read").value == 1
    for name in ("mtf", "faithful_contrast", "zone_plate_contrast", "bars", "landolt_read", "letter_read", "frc_noise"):
        found = perfect.curve(name)
        assert len(found.x) == len(found.y) == len(found.low) == len(found.high) > 4
        assert found.y == pytest.approx([1] * len(found.y), abs=1e-6), name
    assert not perfect.skipped


def test_the_result_is_plain_data_and_pictures(perfect) -> None:
    """JSON without NaN or infinity; unique names; pictures in pairs, as 8-bit files hold them."""
    data = json.loads(json.dumps(perfect.to_dict(), allow_nan=False))
    assert set(data["quantities"]) == {q.name for q in perfect.quantities} and len(data["curves"]) == len(
        perfect.curves
    )
    assert len({q.name for q in perfect.quantities}) == len(perfect.quantities)
    assert {"edge", "zone_plate", "landolt", "letter"} <= {p.name for p in perfect.pictures}
    for picture in perfect.pictures:
        assert picture.original.shape == picture.reconstruction.shape and picture.original.shape[0] == 3
        assert torch.equal(picture.original, to_uint8(picture.original).float() / 255)
    with pytest.raises(KeyError, match="mtf50"):
        perfect.quantity("mtf51")


def test_a_gaussian_blur_reads_its_analytic_mtf() -> None:
    """The medians of all directions and contrasts within .01, the bands within .015; gratings and MTF50 follow."""
    result = detail(blur, 128, stride=16, quick=True, seed=3, parts=("edges", "gratings"))
    for name in ("mtf", "mtf_vertical", "mtf_diagonal", "mtf_horizontal", "mtf_high_contrast", "mtf_low_contrast"):
        found = result.curve(name)
        truth = [response(x) for x in found.x]
        assert found.y == pytest.approx(truth, abs=0.01), name
        assert found.low == pytest.approx(truth, abs=0.015) and found.high == pytest.approx(truth, abs=0.015), name
    assert result.quantity("mtf50").value == pytest.approx(math.sqrt(math.log(2) / 2) / (math.pi * SIGMA), rel=0.02)
    found = result.curve("faithful_contrast")
    assert found.y == pytest.approx([response(x) for x in found.x], abs=0.01)
    assert result.quantity("hallucinated_energy").value == pytest.approx(0, abs=0.01)
    assert result.quantity("edge_shift").value == pytest.approx(0, abs=0.02)


def response(frequency: float) -> float:
    """MTF of the blur."""
    return math.exp(-2 * (math.pi * SIGMA * frequency) ** 2)


def test_a_tokenizer_that_keeps_nothing() -> None:
    """Mid gray for everything: no response, no acuity, nothing invented; all of it still plain numbers."""
    result = detail(lambda x: torch.full_like(x, 0.5), 64, stride=None, quick=True, seed=0)
    json.dumps(result.to_dict(), allow_nan=False)
    assert result.quantity("edges_lost").value == 1 and result.quantity("mtf50").value == 0
    assert result.quantity("edge_shift").value is None and result.quantity("edge_shift").n == 0
    assert result.quantity("landolt_threshold").value is None
    assert result.quantity("letter_smallest_read").value is None
    assert result.quantity("hallucinated_energy").value == pytest.approx(0, abs=1e-9)
    assert result.quantity("line_continuity_3px").value == 0 and result.quantity("line_unbroken_3px").value == 0
    assert [s.metric for s in result.skipped] == ["blockiness"] and "stride=None" in result.skipped[0].reason


def test_order_batch_and_threads_do_not_matter() -> None:
    """Part by part or all at once, in batches of 7 or 64, on one thread or two: the same to 1e-6."""
    names = ("edges", "textures", "colors", "lines")
    whole = detail(blur, 64, stride=8, quick=True, seed=1, parts=names, batch=64)
    threads = torch.get_num_threads()
    torch.set_num_threads(1 if threads > 1 else 2)
    try:
        other = detail(blur, 64, stride=8, quick=True, seed=1, parts=names[::-1], batch=7)
    finally:
        torch.set_num_threads(threads)
    for found in whole.quantities:
        assert other.quantity(found.name).value == pytest.approx(found.value, abs=1e-6), found.name
    for found in whole.curves:
        assert other.curve(found.name).y == pytest.approx(found.y, abs=1e-6), found.name


def test_the_seed_moves_the_placements() -> None:
    """The same seed, the same charts; another, others."""
    seen: list[Tensor] = []

    def watch(images: Tensor) -> Tensor:
        seen.append(images.clone())
        return images

    for seed in (0, 0, 1):
        detail(watch, 64, stride=8, quick=True, seed=seed, parts=("edges",), batch=64)
    assert torch.equal(seen[0], seen[1]) and not torch.equal(seen[0], seen[2])
    assert seen[0].dtype == torch.float32 and torch.equal(seen[0], to_uint8(seen[0]).float() / 255)


def test_other_sizes() -> None:
    """The smallest size, one that is no power of two, a large one, and the full set of charts of one part."""
    small = detail(lambda x: x, 32, stride=8, quick=True, seed=0)
    assert small.quantity("mtf_at_1/4").value == pytest.approx(1)
    odd = detail(lambda x: x, 50, stride=10, quick=True, seed=0)
    assert odd.quantity("blockiness").value == 1
    large = detail(lambda x: x, 160, stride=16, quick=True, seed=0, parts=("edges", "patterns", "colors"))
    assert large.quantity("color_difference_64px").value == pytest.approx(0, abs=1e-6)
    full = detail(lambda x: x, 64, stride=8, quick=False, seed=0, parts=("landolt",))
    assert full.quantity("landolt_low_contrast_threshold").value == 1


def test_parts_are_announced() -> None:
    """Each before it begins, in order."""
    heard: list[str] = []
    detail(lambda x: x, 32, stride=8, quick=True, seed=0, parts=("edges", "colors"), on_part=heard.append)
    assert heard == ["edges", "colors"] and len(PARTS) == 9


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": 16}, "at least 32 pixels a side, got size=16"),
        ({"stride": 0}, "stride=0"),
        ({"parts": ("edge",)}, "unknown parts"),
        ({"reconstruct": lambda x: x * math.nan}, "NaN"),
        ({"reconstruct": lambda x: 2 * x}, r"values in \[0.4, 1.6\]"),
        ({"reconstruct": lambda x: x[:, :, ::2, ::2]}, "bring it back to the size"),
        ({"reconstruct": lambda x: to_uint8(x)}, "uint8"),
    ],
)
def test_bad_input(change, message) -> None:
    """Said with what was got and what to do."""
    arguments = {"reconstruct": lambda x: x, "size": 64, "stride": 8, "quick": True, "seed": 0, "parts": ("edges",)}
    with pytest.raises(ValueError, match=message):
        detail(**(arguments | change))


def test_any_alphabet_can_be_read() -> None:
    """Digits alone, through a blur; the threshold is finite and the name is the caller's."""
    setup = Setup(reconstruct=blur, size=64, stride=8, quick=True, seed=0, batch=32)
    part = glyphs(setup, "digits", "Digits", DIGITS)
    assert {q.name for q in part.quantities} == {"digits_threshold", "digits_smallest_read"}
    assert part.curves[0].y[-1] == 1


def test_values_not_reached_or_not_measured() -> None:
    """inf is not reached, NaN is not measured; medians of what is left."""
    found = quantity("x", torch.tensor([1.0, 2.0, math.inf, math.nan]), "px", "lower")
    assert (found.value, found.high, found.n) == (2, None, 3)
    assert quantity("x", torch.tensor([math.inf]), "px", "lower", missing="none").note == "none"
    nothing = quantity("x", torch.tensor([math.nan]), "px", "lower")
    assert nothing.value is None and nothing.note == "measured at no placement"
    line = curve("c", "c", [1, 2], "px", torch.tensor([[1.0, math.nan], [3.0, math.nan]]), "")
    assert line.x == (1,) and line.y == (2,)


def test_dead_leaves_cover_everything() -> None:
    """No ground is left and the colors stay in their range."""
    leaves = dead_leaves(48, rng(5, "leaves"))
    assert float(leaves.min()) >= 0.05 and float(leaves.max()) <= 0.95
