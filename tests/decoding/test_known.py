"""Proves that masks in pixels keep the right tokens of every map, and that an edit leaves the kept places alone."""

import pytest
import torch

import smalti
from smalti.decoding.known import Known, keep_of
from smalti.decoding.loop import Stage, decode
from smalti.decoding.noise import Noise
from smalti.generators.base import Condition
from smalti.tokens import Choice, TokenLayout, Tokens
from tests.tiny.var import tiny_var_generator, tiny_var_tokenizer

LAYOUT = TokenLayout.scales((1, 2, 4), vocab=32)


def test_the_left_half_keeps_the_left_tokens_of_every_map() -> None:
    """Pixels map to the finest grid, then to the coarser ones; the single token is always kept."""
    mask = torch.zeros(1, 16, 16, dtype=torch.bool)
    mask[..., :8] = True
    keep = keep_of(LAYOUT, mask)[0]
    assert keep[0]
    assert keep[1:5].view(2, 2).tolist() == [[True, False]] * 2
    assert keep[5:].view(4, 4).tolist() == [[True, True, False, False]] * 4


def test_class_editing_keeps_the_given_tokens_and_changes_the_rest() -> None:
    """The authors' rule on a real model: ids equal inside the mask, another class outside."""
    tokenizer, model = tiny_var_tokenizer(), tiny_var_generator()
    tokens = tokenizer.encode(torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)))
    mask = torch.zeros(16, 16, dtype=torch.bool)
    mask[:, :8] = True
    known = Known.from_mask(tokens, mask)
    condition, feedback = Condition.of_classes([1, 2]), tokenizer.feedback(2)
    *_, last = decode([Stage(model=model)], condition, feedback=feedback, noise=Noise.of(0, 2), known=known)
    assert torch.equal(last.values[known.keep], tokens.ids[known.keep])
    assert not torch.equal(last.values, tokens.ids)


def test_in_painting_fits_the_kept_tokens_to_the_drawn_ones_before_them() -> None:
    """Codes of what drawn maps leave over bring the kept half nearer to the image than the image's own codes do."""
    from smalti.data.sample_images import samples

    model = smalti.load("mini/var-gen")
    images = smalti.read_images([sample.path for sample in samples("emoji")], size=64)
    paint = torch.zeros(64, 64, dtype=torch.bool)
    paint[:, 32:] = True
    known = Known.from_mask(model.tokenizer.encode(images), ~paint)
    own = model.generate(classes=[None] * len(images), known=known)
    fitted = model.inpaint(images, paint)
    errors = [(made.images - images).square()[..., :32].mean(dim=(1, 2, 3)) for made in (own, fitted)]
    assert errors[1].mean() < 0.85 * errors[0].mean()
    assert torch.equal(fitted.tokens.ids[:, :1], known.values[:, :1])


def test_known_tokens_behind_their_own_are_renewed_to_themselves() -> None:
    """Behind the maps they were made for, every map's codes are those of the image; behind others, not all are."""
    tokenizer = smalti.load("mini/var")
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    tokens, aim = tokenizer.encode(images), tokenizer.aim(images)
    own, other = tokenizer.feedback(2), tokenizer.feedback(2)
    for k in range(len(tokens.layout.segments)):
        ids = tokens.segment(k).flatten(1)
        assert torch.equal(own.renew(torch.zeros_like(ids), aim), ids)
        assert k == 0 or not torch.equal(other.renew(ids, aim), ids)
        own.push(k, Choice(ids=ids))
        other.push(k, Choice(ids=torch.zeros_like(ids)))


def test_soft_decoding_keeps_known_tokens_exactly() -> None:
    """A kept position is the looked-up code, not a mixture."""
    from smalti.decoding.sampling import Sampling

    tokenizer, model = tiny_var_tokenizer(), tiny_var_generator()
    tokens = tokenizer.encode(torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)))
    known = Known.from_mask(tokens, torch.ones(16, 16, dtype=torch.bool))
    known.keep[:, -1] = False
    stage = Stage(model=model, sampling=Sampling(soft=True))
    feedback = tokenizer.feedback(1)
    *_, last = decode([stage], Condition.of_classes([1]), feedback=feedback, noise=Noise.of(0, 1), known=known)
    assert last.choice.soft[0, :-1].max(-1).values.eq(1).all() and torch.equal(last.values[:, :-1], tokens.ids[:, :-1])


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (torch.ones(16, 16), "must be bool"),
        (torch.ones(3, 16, 16, dtype=torch.bool), "masks for 3 images"),
        (torch.ones(2, 3, 16, 16, dtype=torch.bool), "must be bool"),
    ],
)
def test_wrong_masks_are_refused(mask: torch.Tensor, words: str) -> None:
    """Before any forward pass."""
    tokens = Tokens(layout=LAYOUT, ids=torch.zeros(2, LAYOUT.length, dtype=torch.int64))
    with pytest.raises(ValueError, match=words):
        Known.from_mask(tokens, mask)
    with pytest.raises(ValueError, match="whole sequences"):
        Known.from_mask(tokens.prefix(5), torch.ones(16, 16, dtype=torch.bool))
