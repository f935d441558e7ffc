"""Proves of FlexAR what goldens and the contract suite do not show: which condition the unguided rows have under either
reading, that the text costs its keys and values once, that padding changes nothing, early stop, what is refused before
a forward pass, and what training drops. Texts run end to end with a T5 made here.
"""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from smalti.decoding.guidance import Guidance
from smalti.decoding.known import Known
from smalti.decoding.loop import Partial, Stage, decode
from smalti.decoding.noise import Noise
from smalti.decoding.sampling import Sampling
from smalti.generators.base import Condition
from smalti.generators.flextok.config import FlexARConfig
from smalti.generators.flextok.model import FlexARGenerator
from smalti.generators.flextok.objective import FlexARObjective, FlexARObjectiveConfig, dropped
from smalti.hub import load, save_pretrained
from smalti.pipeline import ImageGenerator
from smalti.text.t5 import T5, T5Text
from smalti.tokenizers.base import NoFeedback
from smalti.tokens import Choice, Tokens
from tests.text.t5_folder import save_tiny_t5
from tests.tiny.flextok import WITH_TEXT, captions, tiny_flexar, tiny_flextok

GUIDED = Guidance(scale=2.0)


def generate(
    model: FlexARGenerator, condition: Condition, guidance: Guidance = GUIDED, known: Known | None = None
) -> list[Partial]:
    """All steps, greedy."""
    stage = Stage(model=model, guidance=guidance, sampling=Sampling.greedy())
    noise = Noise.of(0, len(condition))
    return list(decode([stage], condition, feedback=NoFeedback(), noise=noise, known=known))


def null_logits(model: FlexARGenerator, ids_BL: Tensor, start: int = 0) -> list[Tensor]:
    """Logits of the null rows step by step, with the given tokens fed whatever is predicted."""
    condition = Condition.of_classes([3] * len(ids_BL))
    with torch.no_grad():
        state = model.begin(condition, feedback=NoFeedback(), branches=("cond", "null"), known=ids_BL, start=start)
        logits = []
        for i in range(start, ids_BL.shape[1]):
            logits.append(model.predict(state).logits_RBnV[1, :, 0])
            model.accept(state, Choice(ids=ids_BL[:, i : i + 1]))
    return logits


def forced(model: FlexARGenerator, ids_BL: Tensor, label: int) -> Tensor:
    """Teacher-forced logits of a class, [B, L, V]."""
    with torch.no_grad():
        tokens = Tokens(layout=model.layout, ids=ids_BL)
        return model(tokens, Condition.of_classes([label] * len(ids_BL))).logits_RBnV[0]


@pytest.mark.parametrize("start", [0, 2])
def test_which_class_the_unconditional_rows_have(start: int) -> None:
    """fixed: none. authors: none for the first token they predict, class 0 for all later ones."""
    ids = torch.randint(120, (2, 6), generator=torch.Generator().manual_seed(0))
    for quirks, later in (("fixed", -1), ("authors", 0)):
        model = tiny_flexar(quirks=quirks)
        steps = null_logits(model, ids, start)
        for i, logits in enumerate(steps, start=start):
            expected = forced(model, ids, -1 if i == start else later)[:, i]
            assert torch.allclose(logits, expected, atol=1e-4), f"{quirks}, token {i}"
    assert not torch.allclose(forced(model, ids, -1)[:, 3], forced(model, ids, 0)[:, 3], atol=0.01)


def test_authors_reading_lets_go_of_the_null_rows_too() -> None:
    """Guidance that ends after the first token: the conditional rows go on as if there had been no guidance."""
    model = tiny_flexar(quirks="authors")
    condition = Condition.of_classes([1, 4])
    short = generate(model, condition, Guidance(scale=2.0, curve="interval", stop=0.0))
    first = short[0].values[:, :1]
    known = Known(
        values=first.new_zeros(2, 6).index_copy(1, torch.tensor([0]), first), keep=torch.arange(6) < torch.ones(2, 1)
    )
    plain = generate(model, condition, Guidance(), known)
    assert torch.equal(short[-1].values, plain[-1].values)


def test_the_text_is_read_once_an_image() -> None:
    """However many tokens are made; and every step runs one token a row."""
    model = tiny_flexar(**WITH_TEXT)
    counts = {"text": 0, "keys": 0}
    model.text_projection.register_forward_hook(lambda *_: counts.__setitem__("text", counts["text"] + 1))
    rows: list[int] = []
    for block in model.blocks:
        block.cross.k.register_forward_hook(lambda *_: counts.__setitem__("keys", counts["keys"] + 1))  # type: ignore[union-attr]
        block.feed_forward.register_forward_hook(lambda _, x, y: rows.append(y.shape[1]))  # type: ignore[union-attr]
    generate(model, captions([0, 1]))
    assert counts == {"text": 1, "keys": 2}
    assert rows == [1] * 12


def test_padding_of_texts_changes_nothing() -> None:
    """More room behind the features, with anything in it."""
    model, condition = tiny_flexar(**WITH_TEXT), captions([1, 2])
    assert condition.text is not None and condition.text_mask is not None
    assert condition.empty_text is not None and condition.empty_mask is not None
    room, no = torch.full((2, 3, 12), 7.0), torch.zeros(2, 3, dtype=torch.bool)
    longer = replace(
        condition,
        text=torch.cat([condition.text, room], dim=1),
        text_mask=torch.cat([condition.text_mask, no], dim=1),
        empty_text=torch.cat([condition.empty_text, room[:1]], dim=1),
        empty_mask=torch.cat([condition.empty_mask, no[:1]], dim=1),
    )
    a, b = generate(model, condition), generate(model, longer)
    for one, other in zip(a, b, strict=True):
        assert one.choice is not None and other.choice is not None
        assert torch.equal(one.values, other.values)
        assert torch.allclose(one.choice.logprobs, other.choice.logprobs, atol=1e-5)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        (Condition.of_classes([-1]), "give text"),
        (replace(captions([0]), classes=torch.tensor([2])), "no classes"),
        (replace(captions([0]), text_mask=torch.zeros(1, 5, dtype=torch.bool)), "an image has no text"),
        (replace(captions([0]), empty_text=None), "features of the empty text"),
        (Condition(classes=torch.tensor([-1]), text=torch.ones(1, 3, dtype=torch.int64)), "got token ids"),
    ],
)
def test_conditions_are_checked_before_the_first_pass(
    condition: Condition, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_flexar(**WITH_TEXT)
    monkeypatch.setattr(model, "predict", lambda *_: pytest.fail("the forward pass has begun"))
    with pytest.raises(ValueError, match=words):
        generate(model, condition)


def test_impossible_sizes_are_refused() -> None:
    for changes, words in (
        ({"heads": 5}, "width 768 and 5 heads"),
        ({"kv_heads": 5, "fused_qkv": False}, "12 and 5"),
        ({"kv_heads": 2}, "knows no kv_heads"),
        ({"activation": "swish"}, "gelu-tanh"),
        ({"positions": "sincos", "width": 30, "heads": 2}, "multiple of 4"),
        ({"rotary": 1e4, "width": 36}, "even head width"),
        ({"quirks": "mine"}, "'authors' or 'fixed'"),
        ({"text_features": 8, "cross_heads": 7}, "width 768 and 7 heads"),
        ({"grid": (0, 1)}, "two positive numbers"),
    ):
        with pytest.raises(ValueError, match=words):
            FlexARConfig(**changes)  # type: ignore[arg-type]


# ---- whole images ----------------------------------------------------------------------------------------------------


def pipeline(**changes: object) -> ImageGenerator:
    """Generator and tokenizer at tiny size."""
    tokenizer = tiny_flextok()
    tokenizer.name = "test/flextok"
    return ImageGenerator(generator=tiny_flexar(**changes), tokenizer=tokenizer, name="test/flexar")


def test_any_number_of_tokens_is_an_image() -> None:
    """Stopping after k tokens gives the first k of the whole sequence."""
    model = pipeline()
    whole = model.generate(classes=[1, 2], seed=3, guidance=1.5)
    assert whole.images.shape == (2, 3, 16, 16)
    for k in (1, 4):
        part = model.generate(classes=[1, 2], seed=3, guidance=1.5, budget=k)
        assert whole.tokens.ids is not None and part.tokens.ids is not None
        assert torch.equal(part.tokens.ids, whole.tokens.ids[:, :k])
        assert torch.equal(part.images, model.tokenizer.decode(whole.tokens.prefix(k)))


def test_a_text_becomes_an_image(tmp_path: Path) -> None:
    """Through a T5 without cleaning; guidance reads the empty text; saved and loaded the tokens are the same."""
    t5 = save_tiny_t5(tmp_path / "t5", width=12)
    encoder = T5Text(T5(repo=str(t5), clean=False, left_padded=False, length=9, dtype="float32"))
    model = replace(pipeline(**WITH_TEXT), text_encoder=encoder)
    out = model.generate(text=["a red apple", "a blue dog on the table"], seed=1, guidance=2.0)
    alone = model.generate(text=["a blue dog on the table"], seed=2, guidance=2.0)
    assert out.tokens.ids is not None and alone.tokens.ids is not None
    assert torch.equal(out.tokens.ids[1:], alone.tokens.ids)
    condition = model.condition(text=["a red apple"])
    assert condition.empty_mask is not None and condition.empty_mask.sum() == 1, "the end sign alone"
    tokenizer = save_pretrained(model.tokenizer, tmp_path / "tokenizer", name=str(tmp_path / "tokenizer"))
    model.tokenizer.name = str(tokenizer)
    save_pretrained(model, tmp_path / "model", name="test/flexar", license="Apache-2.0")
    loaded = load(tmp_path / "model", tokenizer=model.tokenizer)
    assert isinstance(loaded, ImageGenerator)
    again = loaded.generate(text=["a red apple"], seed=1, guidance=2.0)
    assert again.tokens.ids is not None and torch.equal(again.tokens.ids, out.tokens.ids[:1])


# ---- training --------------------------------------------------------------------------------------------------------


def test_dropped_conditions_are_empty_ones() -> None:
    rng = torch.Generator().manual_seed(0)
    condition = captions([0, 1, 2] * 20)
    thinned, null = dropped(condition, 0.5, rng), condition.null()
    assert thinned.text is not None and condition.text is not None and null.text is not None
    empty = (thinned.text == null.text).all(dim=(1, 2))
    assert 15 < empty.sum() < 45
    assert torch.equal(thinned.text[~empty], condition.text[~empty])
    assert thinned.text_mask is not None and (thinned.text_mask[empty].sum(dim=1) == 1).all()
    assert set(dropped(Condition.of_classes([1] * 50), 0.5, rng).classes.tolist()) == {1, -1}
    with pytest.raises(ValueError, match="features of the empty text"):
        dropped(replace(condition, empty_text=None), 0.5, rng)


def test_the_loss_is_the_cross_entropy_of_the_next_token() -> None:
    """Conditions are dropped in training only; a teacher is refused."""
    model, ids = tiny_flexar(), torch.arange(12).view(2, 6)
    config = FlexARObjectiveConfig(condition_dropout=1.0)
    condition, rng = Condition.of_classes([1, 2]), torch.Generator()
    for training, c in ((False, condition), (True, condition.null())):
        objective = FlexARObjective(model, None, config).train(training)
        logits = model(Tokens(layout=model.layout, ids=ids), c).logits_RBnV[0]
        expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids.flatten())
        assert torch.allclose(objective((ids, condition), 0, rng).total, expected)
    with pytest.raises(ValueError, match="teacher"):
        FlexARObjective(model, None, config, teacher=model)
