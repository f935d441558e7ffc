"""Proves that every tokenizer family obeys the one contract, at tiny size with random weights: determinism, batch and
permutation invariance, the prefix rule, the pixel range, save and load, gradients. Families are found in tests/tiny;
the toys of tests/toys.py go through the same tests.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from smalti.hub import from_pretrained, save_pretrained
from smalti.hub.families import FAMILIES
from smalti.tokenizers.base import Tokenizer
from smalti.tokens import Origin, Tokens
from tests.own_method import MeanColor
from tests.tiny import gathered
from tests.toys import toy_pairs

TOYS: dict[str, Callable[[], Tokenizer]] = {
    **{f"toy {name}": (lambda name=name: toy_pairs()[name][0]) for name in ("raster", "two scales", "latents")},
    "own method": lambda: MeanColor().eval(),
}
TOKENIZERS: dict[str, Callable[[], Tokenizer]] = {**TOYS, **gathered("TOKENIZERS")}
OBJECTIVES: dict[str, Callable[[Any], Any]] = gathered("OBJECTIVES")
UNUSED: dict[str, tuple[str, ...]] = gathered("UNUSED")


@pytest.fixture(params=TOKENIZERS)
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    """One family after the other."""
    return TOKENIZERS[request.param]()


def images_of(tokenizer: Tokenizer, count: int = 3) -> Tensor:
    """Smooth random images (or videos) of a size the tokenizer takes: each of another color."""
    side = tokenizer.sizes.value if tokenizer.sizes.kind == "fixed" else max(tokenizer.sizes.value, 16)
    frames = [tokenizer.frames] if tokenizer.frames else []
    rng = torch.Generator().manual_seed(5)
    colors = torch.rand(count, 3, *[1 for _ in frames], 1, 1, generator=rng)
    noise = torch.rand(count, 3, *frames, side, side, generator=rng)
    return 0.5 * colors + 0.5 * noise


def values_of(tokens: Tokens) -> Tensor:
    """Ids or latents."""
    values = tokens.ids if tokens.ids is not None else tokens.latents
    assert values is not None
    return values


def same(a: Tokens, b: Tokens) -> bool:
    """Equal ids, or latents equal up to rounding."""
    if not torch.equal(a.lengths, b.lengths):
        return False
    return torch.equal(a.ids, b.ids) if a.ids is not None and b.ids is not None else close(values_of(a), values_of(b))


def close(a: Tensor, b: Tensor, tolerance: float = 1e-4) -> bool:
    """Equal up to rounding, relative to the scale."""
    return a.shape == b.shape and float((a - b).abs().max()) <= tolerance * max(1.0, float(a.abs().max()))


def test_encoding_is_deterministic_and_independent_of_the_batch(tokenizer: Tokenizer) -> None:
    """The same image gets the same tokens twice, alone, and in another order."""
    images = images_of(tokenizer)
    tokens = tokenizer.encode(images)
    assert same(tokens, tokenizer.encode(images))
    assert same(tokens[1], tokenizer.encode(images[1:2]))
    order = torch.tensor([2, 0, 1])
    assert same(tokens[order], tokenizer.encode(images[order]))
    side = tuple(images.shape[-2:])
    assert tokens.layout == tokenizer.layout(side)  # type: ignore[arg-type]
    tokens.check_ids()


def test_decoding_is_deterministic_and_independent_of_the_batch(tokenizer: Tokenizer) -> None:
    """The same tokens give the same image twice and alone, in [0, 1], of the encoded size."""
    images = images_of(tokenizer)
    tokens = tokenizer.encode(images)
    decoded = tokenizer.decode(tokens)
    assert decoded.shape == images.shape
    assert 0 <= decoded.min() <= decoded.max() <= 1
    assert torch.equal(decoded, tokenizer.decode(tokens))
    assert close(decoded[1:2], tokenizer.decode(tokens[1]))


def test_every_legal_prefix_decodes_and_others_are_refused(tokenizer: Tokenizer) -> None:
    """A cut decodes alone as in a batch of the same cut; an illegal cut names the nearest legal ones."""
    tokens = tokenizer.encode(images_of(tokenizer))
    legal = [k for k in tokens.layout.prefixes if k <= int(tokens.lengths.min())]
    for k in legal if len(legal) <= 6 else [*legal[:2], legal[len(legal) // 2], *legal[-2:]]:
        cut = tokens.prefix(k)
        decoded = tokenizer.decode(cut)
        assert decoded.shape[:2] == (3, 3)
        assert 0 <= decoded.min() <= decoded.max() <= 1
        side = tokenizer.size_of(k)
        assert side is None or decoded.shape[-1] == side
        assert close(decoded[2:], tokenizer.decode(cut[2]))
    with pytest.raises(ValueError, match="nearest legal"):
        tokens.prefix(tokens.layout.length + 1)


def test_wrong_images_are_refused_before_the_forward_pass(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Size, range, dtype, NaN and shape each get an error that says what to do."""
    good = images_of(tokenizer)
    monkeypatch.setattr(tokenizer, "_encode", lambda *_: pytest.fail("the forward pass has begun"))
    bad = [
        (good * 2 - 1, r"RGB in \[0, 1\]"),
        ((good * 255).byte(), "float"),
        (torch.full_like(good, torch.nan), "finite|NaN"),
        (good[0], "B, 3, "),
    ]
    if tokenizer.sizes.kind != "any" and tokenizer.sizes.value > 1:
        bad.append((good[..., :-1], "takes"))
    for images, words in bad:
        with pytest.raises(ValueError, match=words):
            tokenizer.encode(images)


def test_tokens_of_another_tokenizer_or_layout_are_refused(tokenizer: Tokenizer) -> None:
    """The error names both tokenizers."""
    tokenizer.name, tokenizer.fingerprint = "ours", "a" * 64
    images = images_of(tokenizer, 1)
    tokens = tokenizer.encode(images)
    assert tokens.origin is not None
    assert tokens.origin.tokenizer == "ours"
    assert tokens.origin.seed is None
    drawn = tokenizer.encode(images, rng=torch.Generator().manual_seed(7))
    assert drawn.origin is not None and drawn.origin.seed == 7, "what was drawn is on record"
    assert same(drawn, tokenizer.encode(images, rng=torch.Generator().manual_seed(7)))
    origin = Origin(tokenizer="theirs", weights="b" * 64, image_size=tokens.origin.image_size)
    foreign = Tokens(
        layout=tokens.layout, ids=tokens.ids, latents=tokens.latents, lengths=tokens.lengths, origin=origin
    )
    with pytest.raises(ValueError, match=r"theirs[\s\S]*ours"):
        tokenizer.decode(foreign)


def test_tokens_survive_their_file(tokenizer: Tokenizer, tmp_path: Path) -> None:
    """What was saved decodes to the same image."""
    tokens = tokenizer.encode(images_of(tokenizer))
    tokens.save(tmp_path / "t.safetensors")
    loaded = Tokens.load(tmp_path / "t.safetensors")
    assert same(tokens, loaded)
    assert torch.equal(tokenizer.decode(loaded), tokenizer.decode(tokens))


@pytest.mark.parametrize("name", [n for n in TOKENIZERS if n not in TOYS])
def test_save_and_load_give_the_same_model(name: str, tmp_path: Path) -> None:
    """Tokens and images are equal through our own folder; the family table builds the same class."""
    model = TOKENIZERS[name]()
    save_pretrained(model, tmp_path / "model", name="test/model", license="Apache-2.0")
    loaded = from_pretrained(tmp_path / "model")
    assert type(loaded) is type(model)
    assert isinstance(loaded, Tokenizer)
    images = images_of(model)
    assert torch.equal(values_of(model.encode(images)), values_of(loaded.encode(images)))
    assert torch.equal(model.decode(model.encode(images)), loaded.decode(loaded.encode(images)))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_gradients_reach_every_parameter(name: str) -> None:
    """No trainable parameter is left out of the objective, but for those that the family names with a reason."""
    model = TOKENIZERS[name]().train()
    objective = OBJECTIVES[name](model)
    rng = torch.Generator().manual_seed(0)
    for step in range(4):  # random choices of an objective may leave a part out of one step
        objective(images_of(model, 4), step, rng).total.backward()
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    dead = [n for n, p in trained.items() if p.grad is None or not p.grad.abs().sum() > 0]
    dead = [n for n in dead if not any(re.fullmatch(pattern, n) for pattern in UNUSED.get(name, ()))]
    assert dead == []
    assert all(torch.isfinite(p.grad).all() for p in trained.values() if p.grad is not None)


def test_every_family_is_here() -> None:
    """A family without a tiny model would escape this suite."""
    missing = {f.name for f in FAMILIES if f.role == "tokenizer"} - {n.split(" ")[0] for n in TOKENIZERS}
    assert not missing
