"""Proves of Hita's transformer what neither its goldens nor the contract suite show: patches made anew behind given
holistic tokens, what the quirk touches, that each step computes one head, the two losses, the heads of further
terms, and which file is which.
"""

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from smalti.decoding.guidance import Guidance
from smalti.decoding.known import Known
from smalti.decoding.loop import Stage, decode
from smalti.decoding.noise import Noise
from smalti.decoding.sampling import Sampling
from smalti.generators.base import Condition
from smalti.generators.hita.config import HitaConfig, interval_guidance
from smalti.generators.hita.model import HitaGenerator
from smalti.generators.hita.objective import HitaObjective, HitaObjectiveConfig
from smalti.hub.keymap import WeightsError
from smalti.hub.matching import best
from smalti.pipeline import ImageGenerator
from smalti.tokenizers.base import NoFeedback
from smalti.tokens import Choice, Tokens
from tests.tiny.hita import tiny_hita_generator, tiny_hita_tokenizer

CLASSES = Condition.of_classes([0, 3])
IDS = torch.randint(64, (2, 22), generator=torch.Generator().manual_seed(0))
KEYS = Path(__file__).parents[1] / "goldens" / "keys"


def logits_of(model: HitaGenerator, ids: torch.Tensor) -> torch.Tensor:
    """Logits [B, L, V] as decoding would give them."""
    with torch.no_grad():
        return model(Tokens(layout=model.layout, ids=ids), CLASSES).logits_RBnV[0]


# ---- two streams -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("quirks", ["authors", "fixed"])
def test_patches_are_made_anew_behind_given_holistic_tokens(quirks: str) -> None:
    """They stay; the patches follow from them in one pass, as if they had been drawn, under any class."""
    model, tokenizer = tiny_hita_generator(quirks=quirks), tiny_hita_tokenizer()
    maker = ImageGenerator(generator=model, tokenizer=tokenizer, name="tiny")
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    given = tokenizer.encode(images).ids
    assert given is not None
    keep = (torch.arange(22) < 6).expand(2, -1)
    made = maker.generate(classes=[1, 4], seed=3, guidance=2.0, known=Known(values=given, keep=keep)).tokens.ids
    assert made is not None and torch.equal(made[:, :6], given[:, :6])
    assert (made[:, 6:] != given[:, 6:]).any(1).all()
    swapped = Known(values=given.flip(0), keep=keep)
    assert (maker.generate(classes=[1, 4], seed=3, guidance=2.0, known=swapped).tokens.ids != made).any(1).all()  # type: ignore[union-attr]
    drawn = maker.generate(classes=[1, 4], seed=3, guidance=2.0).tokens.ids
    assert drawn is not None
    again = maker.generate(classes=[1, 4], seed=3, guidance=2.0, known=Known(values=drawn.clone(), keep=keep))
    assert torch.equal(again.tokens.ids, drawn)  # type: ignore[arg-type]


def test_the_quirk_touches_the_patches_alone() -> None:
    """Position 6 is fed with the other table; holistic logits are the same bit for bit, all patch logits differ."""
    authors, fixed = (logits_of(tiny_hita_generator(quirks=q), IDS) for q in ("authors", "fixed"))
    assert torch.equal(authors[:, :6], fixed[:, :6])
    assert ((authors[:, 6:] - fixed[:, 6:]).abs().amax((0, 2)) > 1e-2).all()
    model = tiny_hita_generator()  # with equal tables there is no difference
    model.patch_embedding.load_state_dict(model.holistic_embedding.state_dict())
    equal = model.logits(IDS, CLASSES, quirks="authors"), model.logits(IDS, CLASSES, quirks="fixed")
    assert torch.equal(*equal)
    with pytest.raises(ValueError, match="quirks is authors or fixed, got 'none'"):
        HitaConfig(quirks="none")  # type: ignore[arg-type]


def test_the_row_between_the_streams_has_no_place() -> None:
    """Its query and key are zero: it looks at everything before it evenly."""
    model = tiny_hita_generator(depth=1)
    cells = torch.view_as_real(model.rotations)
    assert (cells[0] == 0).all() and cells.shape[0] == 17
    assert torch.allclose(cells[1:].norm(dim=-1), torch.ones(()))
    seen: list[torch.Tensor] = []
    model.blocks[0].attention.proj.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))  # type: ignore[union-attr]
    values: list[torch.Tensor] = []
    model.blocks[0].attention.qkv.register_forward_hook(lambda *a: values.append(a[2][..., 64:]))  # type: ignore[union-attr]
    logits_of(model, IDS)
    assert torch.allclose(seen[0][:, 6], values[0][:, :7].mean(1), atol=1e-5)
    assert not torch.allclose(seen[0][:, 5], values[0][:, :6].mean(1), atol=1e-2)


def test_every_step_computes_one_head_for_one_token() -> None:
    """The holistic head six times, the patches' sixteen times, never for more than the token that is drawn."""
    model, calls = tiny_hita_generator(), []
    for name in ("holistic_head", "patch_head"):
        hook = lambda _, inputs, name=name: calls.append((name, inputs[0].shape[1]))  # noqa: E731
        getattr(model, name).register_forward_pre_hook(hook)
    list(decode([Stage(model=model)], CLASSES, feedback=NoFeedback(), noise=Noise.of(0, 2)))
    assert calls == [("holistic_head", 1)] * 6 + [("patch_head", 1)] * 16


# ---- guidance --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("interval", [-1, 0, 4, 5, 19, 20, 99])
def test_the_authors_interval_guides_two_tokens_more_than_it_says(interval: int) -> None:
    """The first token always, then one per decode step up to and including it; negative is no limit."""
    guidance = interval_guidance(2.0, interval, 22)
    guided = [guidance.at(i, 22) != 1 for i in range(22)]
    count = 22 if interval < 0 else min(interval + 2, 22)
    assert guided == [True] * count + [False] * (22 - count)


def test_null_rows_end_with_the_interval() -> None:
    """After it one row an image is run, and the tokens are those of running both rows to the end."""
    model, rows = tiny_hita_generator(), []
    model.blocks[0].register_forward_pre_hook(lambda _, inputs: rows.append(len(inputs[0])))
    stage = Stage(model=model, guidance=interval_guidance(3.0, 7, 22), sampling=Sampling(top_p=0.9))
    values = list(decode([stage], CLASSES, feedback=NoFeedback(), noise=Noise.of(0, 2)))[-1].values
    assert rows == [4] * 9 + [2] * 13
    model.unguide = lambda _: False  # type: ignore[method-assign]
    kept = list(decode([stage], CLASSES, feedback=NoFeedback(), noise=Noise.of(0, 2)))[-1].values
    assert torch.equal(values, kept)
    assert Guidance(scale=1.0).branches(model.branches) == ("cond",)


# ---- training --------------------------------------------------------------------------------------------------------


def test_the_loss_is_the_sum_of_both_streams_as_trained() -> None:
    """Whatever the quirks, in training and evaluation; the weights of the two terms act."""
    model = tiny_hita_generator(quirks="authors")
    logits = logits_of(tiny_hita_generator(quirks="fixed"), IDS)
    terms = [
        F.cross_entropy(logits[:, part].flatten(0, 1), IDS[:, part].flatten()) for part in (slice(6), slice(6, None))
    ]
    for training in (True, False):
        objective = HitaObjective(model, None, HitaObjectiveConfig(condition_dropout=0.0)).train(training)
        model.eval()  # no dropout
        losses = objective((IDS, CLASSES), 0, torch.Generator())
        assert torch.allclose(losses.total, terms[0] + terms[1])
        assert torch.allclose(losses.parts["holistic"], terms[0]) and torch.allclose(losses.parts["patches"], terms[1])
    halved = HitaObjective(model, None, HitaObjectiveConfig(holistic=0.5, patches=2.0)).eval()
    assert torch.allclose(halved((IDS, CLASSES), 0, torch.Generator()).total, 0.5 * terms[0] + 2 * terms[1])


def test_a_share_of_the_conditions_is_dropped() -> None:
    """All of them at 1: the loss is that without a class. Wrong lengths and teachers are refused."""
    model = tiny_hita_generator()
    objective = HitaObjective(model, None, HitaObjectiveConfig(condition_dropout=1.0)).train()
    model.eval()
    dropped = objective((IDS, CLASSES), 0, torch.Generator()).total
    assert torch.equal(dropped, objective.eval()((IDS, CLASSES.null()), 0, torch.Generator()).total)
    assert not torch.allclose(dropped, objective((IDS, CLASSES), 0, torch.Generator()).total)
    with pytest.raises(ValueError, match=r"ids \[batch, 22\], got \[2, 16\]"):
        objective((IDS[:, :16], CLASSES), 0, torch.Generator())
    with pytest.raises(ValueError, match="leave out the teacher"):
        HitaObjective(model, teacher=model)


def test_a_token_is_predicted_by_the_head_of_its_stream() -> None:
    """Whichever stream the state stands in, for any places; the other head gets no gradient."""
    model, rng = tiny_hita_generator(), torch.Generator().manual_seed(0)
    h = torch.randn(2, 22, 32, generator=rng)
    places = torch.rand(2, 22, generator=rng).argsort(dim=1)[..., :9]
    with torch.no_grad():
        whole, some = model.logits_of(h), model.logits_of(h.gather(1, places[..., None].expand(-1, -1, 32)), places)
    assert torch.allclose(some, whole.gather(1, places[..., None].expand(-1, -1, 64)), atol=1e-5)
    heads = model.holistic_head, model.patch_head
    for at, (used, unused) in ((torch.arange(6), heads), (torch.arange(6, 22), heads[::-1])):
        model.zero_grad()
        model.logits_of(h[:, :1].expand(-1, len(at), -1), at).square().sum().backward()
        assert used.weight.grad is not None and used.weight.grad.abs().sum() > 0
        assert unused.weight.grad is None or not unused.weight.grad.any()


# ---- files -----------------------------------------------------------------------------------------------------------


def test_a_file_goes_with_its_tokenizer_or_is_asked_about() -> None:
    """Both kinds of tokenizer have a GPT-B-50e.pt of the same keys and shapes."""
    listed = json.loads((KEYS / "Hita-GPT-B.json").read_text())
    state = {key: torch.empty(shape, device="meta") for key, (_, shape) in listed.items()}
    assert best(state, Path("files/ultra/GPT-B/GPT-B-50e.pt")).name == "hita/ultra-gpt-b-50e"
    assert best(state, Path("files/vanilla/GPT-B/GPT-B-50e.pt")).name == "hita/vanilla-gpt-b-50e"
    assert best(state, Path("GPT-B-250e.pt")).tokenizer == "hita/ultra"
    with pytest.raises(WeightsError, match="like='hita/vanilla-gpt-b-50e' or like='hita/ultra-gpt-b-50e'$"):
        best(state, Path("GPT-B-50e.pt"))
    with pytest.raises(WeightsError, match="like='hita/ultra-gpt-b-250e'"):
        best(state, Path("mine.pt"))


def test_cached_steps_equal_the_whole_pass_from_any_start() -> None:
    """A jump to any token, in front of, at and behind the border of the streams."""
    model = tiny_hita_generator()
    whole = logits_of(model, IDS)
    with torch.no_grad():
        for start in range(22):
            state = model.begin(CLASSES, feedback=NoFeedback(), known=IDS, start=start)
            for i in range(start, 22):
                assert torch.allclose(model.predict(state).logits_RBnV[0], whole[:, i : i + 1], atol=1e-5)
                model.accept(state, Choice(ids=IDS[:, i : i + 1]))
