"""Proves what is NAR's own: who predicts whom on grids of any number of axes, the mean of the heads, one pass for each
diagonal, captions that cannot be served, guidance that stops after some tokens, hand-over from a raster model, clips
end to end, its trainers' files.
"""

from pathlib import Path

import pytest
import torch
from torch import Tensor

import smalti
from smalti.decoding.guidance import Guidance
from smalti.decoding.loop import Stage, decode
from smalti.decoding.noise import Noise
from smalti.decoding.sampling import Sampling
from smalti.decoding.schedules import neighbor
from smalti.generators.base import Condition
from smalti.generators.nar.config import PUBLISHED, NARConfig, guided_until
from smalti.generators.nar.neighbors import Neighbors
from smalti.generators.nar.objective import NARObjective
from smalti.generators.nar.weights import key_map
from smalti.hub import save_pretrained
from smalti.hub.families import build_empty
from smalti.hub.keymap import to_official
from smalti.pipeline import ImageGenerator
from smalti.tokenizers.base import NoFeedback
from smalti.tokens import Segment, TokenLayout, Tokens
from tests.tiny.generators import texts
from tests.tiny.larp import tiny_larp
from tests.tiny.llamagen import tiny_llamagen_generator
from tests.tiny.nar import CLIP, TEXT, tiny_nar


def layout_of(grid: tuple[int, ...]) -> TokenLayout:
    """A grid of 8 codes."""
    segment = Segment(shape=grid, vocab=8)
    return TokenLayout(segments=(segment,), prefixes=(segment.count,))


@pytest.mark.parametrize("grid", [(2, 2), (4, 4), (3, 5), (2, 4, 4), (4, 2, 3), (5,)])
def test_every_token_is_predicted_by_its_neighbors(grid: tuple[int, ...]) -> None:
    """One step back along every axis that has one; all of them are decided in the step before."""
    tables = Neighbors.of(grid, neighbor(layout_of(grid)))
    places = layout_of(grid).coordinates(0)[tables.order].tolist()
    assert torch.equal(tables.order[tables.rank], torch.arange(len(places)))
    for token, place in enumerate(places):
        rows = tables.rows[:, token].tolist()
        for axis, row in zip(reversed(range(len(grid))), rows, strict=True):
            if not sum(place):
                assert row == 1, "the condition predicts the first token with every head"
            elif place[axis]:
                assert places[row - 2] == [n - (j == axis) for j, n in enumerate(place)]
                assert tables.step[row - 2] == tables.step[token] - 1
            else:
                assert row == 0, "nobody"
        assert float(tables.share[token]) == pytest.approx(1 / sum(row > 0 for row in rows))


def test_logits_are_the_mean_of_the_heads() -> None:
    """As written in the paper: rows and columns shifted by one, a mean inside, one head at the border."""
    model, ids = tiny_nar(), torch.randint(64, (2, 16), generator=torch.Generator().manual_seed(0))
    condition = Condition.of_classes([0, 1])
    with torch.no_grad():
        tables = model.neighbors
        states = model.states(ids[:, tables.order], condition)
        right, below = (
            torch.cat([head(h)[:, :1], head(h)[:, 1:][:, tables.rank]], dim=1)
            for head, h in zip(model.heads, states, strict=True)
        )
        got = model(Tokens(layout=model.layout, ids=ids), condition).logits_RBnV[0].unflatten(1, (4, 4))
    assert torch.allclose(got[:, 0, 0], (right[:, 0] + below[:, 0]) / 2, atol=1e-5)
    right, below = (part[:, 1:].unflatten(1, (4, 4)) for part in (right, below))
    assert torch.allclose(got[:, 0, 1:], right[:, 0, :-1], atol=1e-5)
    assert torch.allclose(got[:, 1:, 0], below[:, :-1, 0], atol=1e-5)
    assert torch.allclose(got[:, 1:, 1:], (right[:, 1:, :-1] + below[:, :-1, 1:]) / 2, atol=1e-5)


@pytest.mark.parametrize("changes", [{}, TEXT, CLIP])
def test_every_diagonal_is_one_pass_over_its_tokens_alone(changes: dict) -> None:
    """No token is run twice, padding that no caption needs is not run, and the last diagonal is not run at all."""
    model, passes = tiny_nar(**changes), []
    model.blocks[0].register_forward_pre_hook(lambda _, inputs: passes.append(tuple(inputs[0].shape[:2])))
    condition = texts(6)([1, 2]) if "text_features" in changes else Condition.of_classes([0, 1])
    stage = Stage(model=model, guidance=Guidance(scale=2.0))
    list(decode([stage], condition, feedback=NoFeedback(), noise=Noise.of(0, 2)))
    seen = 4 if "text_features" in changes else 1  # of 5 text tokens the longer caption has 4
    assert passes == [(4, seen)] + [(4, step.count) for step in list(model.schedule())[:-1]]


def test_guidance_stops_after_some_tokens() -> None:
    """Before a step with more tokens than allowed there; the first step is always guided; null rows are dropped."""
    config = NARConfig(grid=(4, 4))
    for tokens, guided in ((0, 1), (1, 2), (5, 3), (6, 4), (100, 7)):
        assert guided_until(config, 3.0, tokens).curve == (1.0,) * guided + (0.0,) * (7 - guided)
    assert guided_until(config, 3.0, -1) == Guidance(scale=3.0)
    model, rows = tiny_nar(), []
    model.blocks[0].register_forward_pre_hook(lambda _, inputs: rows.append(inputs[0].shape[0]))
    stage = Stage(model=model, guidance=guided_until(model.config, 3.0, 5))
    list(decode([stage], Condition.of_classes([0]), feedback=NoFeedback(), noise=Noise.of(0, 1)))
    assert rows == [2] * 3 + [1] * 4


def test_llamagen_drafts_in_raster_order_and_nar_does_the_rest() -> None:
    """Every token that NAR decides is the best one given all tokens before its diagonal, the drafted ones included."""
    drafter, model = tiny_llamagen_generator(), tiny_nar()
    condition, greedy = Condition.of_classes([0, 3]), Sampling.greedy()
    stages = [Stage(model=drafter, sampling=greedy, until=6), Stage(model=model, sampling=greedy)]
    *_, last = decode(stages, condition, feedback=NoFeedback(), noise=Noise.of(0, 2))
    ids = last.values.clone()
    for stage, own in ((drafter, slice(0, 6)), (model, slice(6, 16))):
        with torch.no_grad():
            best = stage(Tokens(layout=model.layout, ids=ids), condition).logits_RBnV[0].argmax(-1)
        assert torch.equal(best[:, own], ids[:, own])


def test_captions_that_cannot_be_served_are_refused() -> None:
    """Another number of tokens, another width, padding on the right, a class: before any pass."""
    model, good = tiny_nar(**TEXT), texts(6)([0, 1])
    model.check_condition(good)
    assert good.text is not None and good.text_mask is not None
    none = torch.full((2,), -1)
    wrong = [
        (Condition(classes=none, text=good.text[:, 1:], text_mask=good.text_mask[:, 1:]), "captions of 5 tokens"),
        (Condition(classes=none, text=good.text[..., 1:], text_mask=good.text_mask), "width 6"),
        (Condition(classes=none, text=good.text, text_mask=good.text_mask.flip(1)), "padded on the left"),
        (Condition.of_classes([0, 1]), "no classes"),
    ]
    for condition, words in wrong:
        with pytest.raises(ValueError, match=words):
            model.check_condition(condition)


def test_configs_that_make_no_sense_are_refused() -> None:
    """The message names the numbers."""
    for changes, words in (
        ({"grid": (4, 16, 16)}, "positions='learned'"),
        ({"grid": (16, 1)}, r"at least 2 tokens.*\(16, 1\)"),
        ({"grid": (4096, 4096)}, "at most 65536"),
        ({"width": 100, "heads": 12}, "width 100 and 12 heads"),
        ({"width": 72, "heads": 12}, "heads of 6"),
        ({"classes": 0}, "either by class"),
        ({"text_features": 8}, "either by class"),
        ({"classes": 0, "text_features": 8, "text_tokens": 0}, "at least 1"),
    ):
        with pytest.raises(ValueError, match=words):
            NARConfig(**changes)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="known: B, M, L, LP, XL, XXL"):
        NARConfig.of_size("S")


def test_parameters_are_as_many_as_published() -> None:
    """Millions, as the authors state them."""
    for variant, millions in (("imagenet-256-B", 130.6), ("t2i-XL-stage2-512", 819.0), ("ucf101-L", 368.7)):
        model = build_empty("generator", "nar", PUBLISHED[variant])
        assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.4)


def clips(folder: Path, model: object, **options: object) -> ImageGenerator:
    """The generator of clips that `load` makes of what is saved."""
    save_pretrained(tiny_larp(image_size=32, tokens=32), folder / "tokenizer", name="tiny/larp", license="MIT")
    tokenizer = smalti.load(folder / "tokenizer")
    if isinstance(model, Path):
        loaded = smalti.load(model, tokenizer=folder / "tokenizer", **options)  # type: ignore[arg-type]
    else:
        whole = ImageGenerator(generator=model, tokenizer=tokenizer)  # type: ignore[arg-type]
        save_pretrained(whole, folder / "generator", name="tiny/nar", license="MIT")
        loaded = smalti.load(folder / "generator", tokenizer=tokenizer, **options)  # type: ignore[arg-type]
    assert isinstance(loaded, ImageGenerator)
    return loaded


def test_clips_are_generated_decoded_and_previewed(tmp_path: Path) -> None:
    """[B, 3, T, H, W] after every step; the last preview is the clip that `generate` gives."""
    generator = clips(tmp_path, tiny_nar(**CLIP))
    made = generator.generate(classes=[1, 3], seed=4, guidance=2.0)
    assert made.images.shape == (2, 3, 4, 32, 32)
    assert torch.equal(generator.tokenizer.decode(made.tokens), made.images)
    steps = list(generator.stream(classes=[1, 3], seed=4, guidance=2.0))
    assert len(steps) == 2 + 4 + 4 - 2 and all(s.images.shape == made.images.shape for s in steps)
    assert torch.equal(steps[-1].images, made.images)
    assert smalti.write_images(made.images, tmp_path / "out")[1].stat().st_size > 1000
    again = generator.tokenizer.encode(made.images)
    assert again.layout == made.tokens.layout


def test_a_file_of_the_video_trainer_loads(tmp_path: Path) -> None:
    """The weights lie under ["model"]["sd"], beside the name and the settings of the model."""
    model = tiny_nar(**CLIP)
    official = to_official(model.state_dict(), key_map(model.config))
    spec = {"name": "llama-abs-L", "args": {"num_classes": 5}, "sd": official}
    torch.save({"model": spec, "cfg": {}, "epoch": 3}, tmp_path / "epoch-last.pth")
    generator = clips(tmp_path, tmp_path / "epoch-last.pth", config=model.config, wrapping="model_sd")
    state: dict[str, Tensor] = generator.generator.state_dict()
    assert all(torch.equal(state[key], value) for key, value in model.state_dict().items())


@pytest.mark.parametrize("changes", [{}, TEXT, CLIP])
def test_half_precision_generates(changes: dict) -> None:
    """bfloat16 weights, caches and logits; the rotations stay exact."""
    model = tiny_nar(**changes).to(torch.bfloat16)
    condition = texts(6)([1, 2]) if "text_features" in changes else Condition.of_classes([0, 1])
    stage = Stage(model=model, guidance=Guidance(scale=2.0))
    *_, last = decode([stage], condition, feedback=NoFeedback(), noise=Noise.of(0, 2))
    assert bool(last.decided.all())
    assert model.rotations is None or model.rotations.dtype == torch.complex64


def test_a_dropped_caption_keeps_its_mask() -> None:
    """Training without a caption is what the null branch of guidance sees."""
    model, condition = tiny_nar(**TEXT), texts(6)([1, 2])
    ids = torch.randint(64, (2, 16), generator=torch.Generator().manual_seed(0))
    dropped = model.without(condition, torch.tensor([True, True]))
    assert dropped.text_mask is condition.text_mask
    with torch.no_grad():
        state = model.begin(condition, feedback=NoFeedback(), branches=("cond", "null"))
        first = model.predict(state).logits_RBnV[1, :, 0]
        assert torch.allclose(first, model.logits(ids, dropped)[:, 0], atol=1e-5)
    with pytest.raises(ValueError, match="no teacher"):
        NARObjective(model, teacher=model)
