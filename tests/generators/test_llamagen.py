"""Proves what is LlamaGen's own: captions padded on the left and the images without one, guidance for the first tokens
only, its loss, its files, grids of other sizes than the tokenizer's default.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import smalti
from smalti.decoding.guidance import Guidance
from smalti.decoding.loop import Stage, decode
from smalti.decoding.noise import Noise
from smalti.decoding.sampling import Sampling
from smalti.generators.base import Condition
from smalti.generators.llamagen.config import SIZES, LlamaGenConfig, interval_guidance
from smalti.generators.llamagen.model import LlamaGenGenerator
from smalti.generators.llamagen.objective import LlamaGenObjective, LlamaGenObjectiveConfig
from smalti.generators.llamagen.weights import key_map
from smalti.hub.families import build_empty, family
from smalti.hub.keymap import to_official
from smalti.nn.rope import on_device
from smalti.pipeline import ImageGenerator
from smalti.tokenizers.base import NoFeedback
from smalti.tokens import Choice, Tokens
from smalti.training.recipe import FamilyParts
from tests.tiny.generators import texts
from tests.tiny.llamagen import TEXT, tiny_llamagen_generator, tiny_llamagen_tokenizer

IDS = torch.randint(64, (3, 16), generator=torch.Generator().manual_seed(0))


def logits(model: LlamaGenGenerator, condition: Condition) -> Tensor:
    """Teacher-forced, of the same ids for every image."""
    with torch.no_grad():
        ids = IDS[:1].expand(len(condition), -1)
        return model(Tokens(layout=model.layout, ids=ids.clone()), condition).logits_RBnV[0]


def loss(objective: LlamaGenObjective, *batch: Any, seed: int = 0) -> float:
    """Of one batch."""
    with torch.no_grad():
        return float(objective(batch, 0, torch.Generator().manual_seed(seed)).total)


def generate(model: LlamaGenGenerator, condition: Condition, guidance: Guidance | None = None) -> Tensor:
    """Ids int64 [B, L]."""
    stage = Stage(model=model, sampling=Sampling(top_k=20), guidance=guidance or Guidance(scale=2.0))
    noise = Noise.of(0, len(condition))
    return list(decode([stage], condition, feedback=NoFeedback(), noise=noise))[-1].values


# captions


def test_padding_is_never_seen() -> None:
    """Whatever stands in the padding, the logits are the same; and they are another caption's otherwise."""
    model, condition = tiny_llamagen_generator(**TEXT), texts(6)([0, 1, 2, 3])
    assert condition.text is not None and condition.text_mask is not None
    noise = torch.randn(condition.text.shape, generator=torch.Generator().manual_seed(1))
    loud = Condition(
        classes=condition.classes,
        text=torch.where(condition.text_mask[..., None], condition.text, 9 * noise),
        text_mask=condition.text_mask,
    )
    expected = logits(model, condition)
    assert torch.allclose(logits(model, loud), expected, atol=1e-5)
    assert not torch.allclose(expected[1], expected[2], atol=0.1)


def test_padding_that_all_images_have_is_not_run() -> None:
    """Alone, a caption of two tokens costs two, and gives what it gives among longer ones."""
    model = tiny_llamagen_generator(**TEXT)
    together, alone = texts(6)([0, 3]), texts(6)([3])
    states = [model.begin(c, feedback=NoFeedback()) for c in (together, alone)]
    assert [s.pending.shape[1] for s in states] == [5, 1]
    with torch.no_grad():
        first, second = (model.predict(s).logits_RBnV[0] for s in states)
    assert torch.allclose(first[1], second[0], atol=1e-5)


def test_the_null_branch_sees_as_much_as_the_caption() -> None:
    """Its rows are those of the dropped caption with the caption's mask."""
    model, condition = tiny_llamagen_generator(**TEXT), texts(6)([0, 1, 2])
    dropped = model.without(condition, torch.ones(3, dtype=torch.bool))
    assert torch.equal(dropped.text_mask, condition.text_mask)  # type: ignore[arg-type]
    state = model.begin(condition, feedback=NoFeedback(), branches=("cond", "null"))
    with torch.no_grad():
        rows = model.predict(state).logits_RBnV
    assert torch.allclose(rows[1][:, 0], logits(model, dropped)[:, 0], atol=1e-5)
    everything = logits(model, condition.null())[:, 0]  # no caption: all of "no caption" is seen
    assert torch.allclose(rows[1][0], everything[:1], atol=1e-5)
    assert not torch.allclose(rows[1][1], everything[1:2], atol=1e-2)


def test_images_without_a_caption() -> None:
    """Among others with one, or in a batch where none has one."""
    model, condition = tiny_llamagen_generator(**TEXT), texts(6)([1, 2])
    assert condition.text is not None and condition.text_mask is not None
    mask = condition.text_mask & torch.tensor([[True], [False]])
    mixed = Condition(classes=condition.classes, text=condition.text, text_mask=mask)
    none = Condition.of_classes([-1])
    assert torch.allclose(logits(model, mixed)[1:], logits(model, none), atol=1e-5)
    assert torch.allclose(logits(model, mixed)[:1], logits(model, condition)[:1], atol=1e-5)
    alone = generate(model, none)
    assert torch.equal(alone, generate(model, none, Guidance(scale=5.0)))  # both branches are the same


@pytest.mark.parametrize(
    ("changes", "asked", "words"),
    [
        (TEXT, lambda: texts(6, 4)([0]), "captions of 5 tokens, padding included, got 4"),
        (TEXT, lambda: texts(7)([0]), "text features of width 6, got text features of width 7"),
        (TEXT, lambda: Condition.of_classes([0]), "class 0 is out of range: this model knows no classes"),
        ({}, lambda: texts(6)([0]), "takes no text"),
        ({}, lambda: Condition.of_classes([5]), r"out of range: this model knows 0\.\.4"),
    ],
)
def test_conditions_that_cannot_be_served(changes: dict, asked: Any, words: str) -> None:
    """Refused before anything runs."""
    with pytest.raises(ValueError, match=words):
        generate(tiny_llamagen_generator(**changes), asked())


def test_captions_padded_on_the_right_are_refused() -> None:
    """The last caption token predicts the first image token: it must not be padding."""
    condition = texts(6)([1])
    assert condition.text is not None and condition.text_mask is not None
    wrong = Condition(classes=condition.classes, text=condition.text.flip(1), text_mask=condition.text_mask.flip(1))
    with pytest.raises(ValueError, match="padded on the left"):
        generate(tiny_llamagen_generator(**TEXT), wrong)


# decoding


@pytest.mark.parametrize("changes", [{}, TEXT])
@pytest.mark.parametrize("interval", [-1, 0, 3, 14, 99])
def test_guidance_of_the_first_tokens(changes: dict, interval: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first and `interval` + 1 more; after that the null rows are not run, and nothing changes by that."""
    model, tokens = tiny_llamagen_generator(**changes), 16
    condition = texts(6)([1, 2]) if changes else Condition.of_classes([1, 2])
    guidance = interval_guidance(3.0, interval, tokens)
    guided = [guidance.at(i, tokens) for i in range(tokens)]
    count = tokens if interval < 0 else min(interval + 2, tokens)
    assert guided == [3.0] * count + [1.0] * (tokens - count)
    ids = generate(model, condition, guidance)
    monkeypatch.setattr(LlamaGenGenerator, "unguide", lambda self, state: False)
    assert torch.equal(generate(model, condition, guidance), ids)


def test_the_cache_is_as_long_as_it_must_be() -> None:
    """The last token is drawn and never fed."""
    model = tiny_llamagen_generator()
    state = model.begin(Condition.of_classes([1]), feedback=NoFeedback())
    assert state.cache.values.shape[-2] == 16


def test_heads_of_a_width_that_8_does_not_divide() -> None:
    """The 3B model has heads of 100 channels: step by step equals teacher forcing."""
    assert LlamaGenConfig.of_size("3B").width // LlamaGenConfig.of_size("3B").heads == 100
    model, condition = tiny_llamagen_generator(width=200, heads=2), Condition.of_classes([1, 2])
    ids = generate(model, condition, Guidance())
    state, stepwise = model.begin(condition, feedback=NoFeedback()), []
    with torch.no_grad():
        for i in range(16):
            stepwise.append(model.predict(state).logits_RBnV[0])
            model.accept(state, Choice(ids=ids[:, i : i + 1]))
        whole = model(Tokens(layout=model.layout, ids=ids), condition).logits_RBnV[0]
    assert torch.allclose(torch.cat(stepwise, dim=1), whole, atol=1e-4)


def test_bfloat16_stays_near() -> None:
    """Rotations are not rounded with the weights; most of the likeliest tokens stay."""
    model, condition = tiny_llamagen_generator(**TEXT), texts(6)([0, 1, 2])
    exact = logits(model, condition)
    rough = logits(model.to(torch.bfloat16), condition)
    assert model.rotations.dtype == torch.complex64 and rough.dtype == torch.float32
    assert (rough.argmax(-1) == exact.argmax(-1)).float().mean() > 0.8
    ids = generate(model, condition)
    assert ids.shape == (3, 16) and int(ids.max()) < 64


def test_a_table_asked_for_in_inference_mode_can_be_trained_with() -> None:
    """It moves to the device of the weights during a generation, and training may follow."""
    with torch.inference_mode():
        moved = on_device(torch.ones(2, dtype=torch.complex64), torch.device("meta"))
    assert not moved.is_inference()


# training


def test_loss_counts_the_images_that_count() -> None:
    """A weight of 0 leaves an image out; without any the loss is 0."""
    model, condition = tiny_llamagen_generator(), Condition.of_classes([0, 1, 2])
    objective = LlamaGenObjective(model).eval()
    each = [loss(objective, IDS[i : i + 1], condition[i : i + 1]) for i in range(3)]
    assert loss(objective, IDS, condition) == pytest.approx(sum(each) / 3, rel=1e-5)
    assert loss(objective, IDS, condition, torch.tensor([1, 0, 1])) == pytest.approx((each[0] + each[2]) / 2, rel=1e-5)
    assert loss(objective, IDS, condition, torch.zeros(3)) == 0
    with pytest.raises(ValueError, match="no teacher"):
        LlamaGenObjective(model, teacher=model)


@pytest.mark.parametrize("changes", [{}, TEXT])
def test_conditions_are_dropped_in_training_only(changes: dict) -> None:
    """Always dropping gives the loss of the dropped condition."""
    model = tiny_llamagen_generator(**changes, dropout=0.0)
    condition = texts(6)([0, 1, 2]) if changes else Condition.of_classes([0, 1, 2])
    plain = LlamaGenObjective(model, None, LlamaGenObjectiveConfig(condition_dropout=0.0))
    always = LlamaGenObjective(model, None, LlamaGenObjectiveConfig(condition_dropout=1.0))
    dropped = model.without(condition, torch.ones(3, dtype=torch.bool))
    kept, expected = loss(plain, IDS, condition), loss(plain, IDS, dropped)
    assert loss(always.train(), IDS, condition) == pytest.approx(expected, rel=1e-5)
    assert loss(always.eval(), IDS, condition) == pytest.approx(kept, rel=1e-5)
    assert abs(kept - expected) > 1e-3


def test_training_starts_at_the_uniform_distribution_and_drops_branches() -> None:
    """The head starts at zero; stochastic depth and dropout make two passes differ, in training only."""
    config = tiny_llamagen_generator().config
    fresh = LlamaGenGenerator(config).eval()
    assert not logits(fresh, Condition.of_classes([0])).any()
    model = tiny_llamagen_generator(drop_path=0.5, dropout=0.0)
    condition = Condition.of_classes([0, 1, 2, 3])
    assert torch.equal(logits(model, condition), logits(model, condition))
    model.train()
    assert not torch.equal(logits(model, condition), logits(model, condition))


def test_recipes_find_the_objective() -> None:
    """By the name of the config."""
    parts = FamilyParts(family("generator", "llamagen"))
    assert parts.objective is LlamaGenObjective and parts.objective_config is LlamaGenObjectiveConfig


# sizes and files


def test_sizes_that_cannot_be() -> None:
    """Both numbers are named."""
    for changes, words in (
        ({"width": 30, "heads": 4}, "width 30 and 4 heads"),
        ({"width": 24, "heads": 4}, "multiple of 4 channels"),
        ({"text_features": 8}, "either by class"),
        ({"classes": 0}, "either by class"),
        ({"classes": 0, "text_features": 8, "text_tokens": 0}, "text_tokens must be at least 1"),
    ):
        with pytest.raises(ValueError, match=words):
            LlamaGenConfig(**changes)
    with pytest.raises(ValueError, match="known: B, L, XL"):
        LlamaGenConfig.of_size("XS")


@pytest.mark.parametrize(
    ("size", "millions"),
    [("B", 111), ("L", 343), ("XL", 775), ("XXL", 1411), ("XXXL", 3900), ("1B", 1200), ("3B", 3097), ("7B", 6600)],
)
def test_parameters_of_the_authors_sizes(size: str, millions: int) -> None:
    """Also of those without published weights; counts as the authors give them."""
    assert set(SIZES) == {"B", "L", "XL", "XXL", "XXXL", "1B", "3B", "7B"}
    model = build_empty("generator", "llamagen", LlamaGenConfig.of_size(size))
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, rel=0.03)


@pytest.mark.parametrize("wrapping", ["model", "module", "state_dict", ""])
def test_files_in_every_wrapping(wrapping: str, tmp_path: Path) -> None:
    """With what the authors' training saves beside the weights, and with the tables that older files hold."""
    model = tiny_llamagen_generator()
    official = to_official(model.state_dict(), key_map(model.config))
    official["freqs_cis"] = torch.view_as_real(model.rotations)
    official["layers.0.attention.kv_cache.k_cache"] = torch.zeros(2, 2, 24, 16)
    beside = {"optimizer": {"state": {}}, "steps": 3, "args": {"gpt_model": "GPT-B"}}
    path = tmp_path / "c2i_tiny.pt"
    torch.save({wrapping: official, **beside} if wrapping else official, path)
    loaded: ImageGenerator = smalti.load(path, config=model.config, tokenizer=tiny_llamagen_tokenizer(), packed=False)  # type: ignore[assignment]
    state = model.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in loaded.generator.state_dict().items())


def test_grids_of_another_size_than_the_tokenizers_default() -> None:
    """The 384 pixel models go with the tokenizer whose default is 256 pixels."""
    model, tokenizer = tiny_llamagen_generator(side=6), tiny_llamagen_tokenizer()
    out = ImageGenerator(generator=model, tokenizer=tokenizer, name="test").generate(classes=[1], guidance=2.0)
    assert tokenizer.layout().length == 16 and out.images.shape == (1, 3, 24, 24)
    other = tiny_llamagen_generator(vocab=32)
    with pytest.raises(ValueError, match="load the tokenizer the generator was trained on"):
        ImageGenerator(generator=other, tokenizer=tokenizer, name="test")


def test_published_settings_are_the_authors() -> None:
    """Guidance per size, 7.5 and 1000 codes for texts, 384 pixels scored at 256."""
    info = smalti.model_info("llamagen/c2i-XL-384")
    assert info.settings.guidance == Guidance(scale=1.75) and info.settings.sampling == Sampling()
    assert "shrunk to 256x256" in info.published[0].protocol and "resize them" in info.notes
    assert "shrunk" not in smalti.model_info("llamagen/c2i-B-256").published[0].protocol
    text = smalti.model_info("llamagen/t2i-XL-stage2-512")
    assert text.settings == smalti.model_info("llamagen/t2i-XL-stage1-256").settings
    assert text.settings.guidance.scale == 7.5 and text.settings.sampling.top_k == 1000
    assert text.tokenizer == "llamagen/vq-ds16-t2i" and text.image_size == 512
    assert smalti.model_info("llamagen/c2i-3B-384").wrapping == "" and info.wrapping == "model"
