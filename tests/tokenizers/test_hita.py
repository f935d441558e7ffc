"""Proves of Hita what neither its goldens nor the contract suite show: the blur before DINOv2 at any size, that
holistic tokens matter, which patch tokens matter, previews, other image sizes, and what the objective refuses.
"""

import pytest
import torch
import torch.nn.functional as F
from torchvision.transforms.v2.functional import gaussian_blur

from smalti.tokenizers.hita.foundation import shrink
from smalti.tokenizers.hita.objective import HitaTokenizerObjective, HitaTokenizerObjectiveConfig
from smalti.tokens import Tokens
from tests.tiny.hita import tiny_hita_tokenizer, tiny_hita_ultra_tokenizer

IMAGES = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("size", "taps", "sigma"),
    [((336, 336), (3, 3), (0.25, 0.25)), ((560, 392), (3, 3), (0.75, 0.375)), ((784, 200), (5, 3), (1.25, 0.001))],
)
def test_shrinking_blurs_like_a_gaussian_of_its_factor(
    size: tuple[int, int], taps: tuple[int, int], sigma: tuple[float, float]
) -> None:
    """Against torchvision's blur: sigma (f - 1) / 2 per axis, 4 sigma taps made odd, at least 3."""
    images = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(1)) * 2 - 1
    blurred = gaussian_blur(images, list(taps[::-1]), list(sigma[::-1]))
    expected = F.interpolate(blurred, size=(224, 224), mode="bicubic", align_corners=True).clamp(-1, 1) / 2 + 0.5
    assert torch.allclose(shrink(images), expected, atol=1e-6)


def test_the_image_depends_on_the_holistic_tokens() -> None:
    """With those of another image the same patches decode to something else."""
    tokenizer = tiny_hita_tokenizer()
    tokens = tokenizer.encode(IMAGES)
    other = tokens[torch.tensor([1, 0])]
    swapped = tokens.with_segment("holistic", other)
    assert torch.equal(swapped.segment(1), tokens.segment(1))
    assert not torch.equal(tokenizer.decode(swapped), tokenizer.decode(tokens))


def test_the_last_patch_tokens_have_no_influence() -> None:
    """Kept from the authors: a patch is read out four places before its own token."""
    tokenizer = tiny_hita_tokenizer()
    tokens = tokenizer.encode(IMAGES)
    assert tokens.ids is not None
    for position, matters in ((-1, False), (-4, False), (-5, True), (0, True)):
        ids = tokens.ids.clone()
        ids[:, position] = (ids[:, position] + 1) % 64
        changed = tokenizer.decode(Tokens(layout=tokens.layout, ids=ids))
        assert torch.equal(changed, tokenizer.decode(tokens)) != matters


def test_a_preview_greys_the_patches_that_are_not_there_yet() -> None:
    tokenizer = tiny_hita_tokenizer()
    tokens = tokenizer.encode(IMAGES)
    assert tokens.ids is not None
    assert torch.equal(tokenizer.preview(tokens), tokenizer.decode(tokens))
    begun = Tokens(layout=tokens.layout, ids=tokens.ids[:, : 6 + 4])  # the holistic tokens and the first row of patches
    for preview in (tokenizer.preview(begun), tokenizer.preview(tokens, torch.arange(22).expand(2, -1) < 10)):
        assert (preview[:, :, 4:] == 0.5).all()
        assert preview[:, :, :4].std() > 0


def test_the_same_weights_take_another_image_size() -> None:
    """The position tables keep their size and are resampled."""
    tokenizer, larger = tiny_hita_tokenizer(), tiny_hita_tokenizer(image_size=24)
    larger.load_state_dict(tokenizer.state_dict())
    tokens = larger.encode(torch.rand(1, 3, 24, 24))
    assert tokens.layout.segments[1].shape == (6, 6)
    assert larger.decode(tokens).shape == (1, 3, 24, 24)


def test_dropout_acts_in_training_only() -> None:
    tokenizer = tiny_hita_tokenizer(dropout=0.5)
    calm, first, second = (tokenizer.train(mode).vectors(IMAGES).patches for mode in (False, True, True))
    assert not torch.equal(first, second)
    assert torch.equal(tokenizer.eval().vectors(IMAGES).patches, calm)


def test_foundation_features_belong_to_the_ultra_kind() -> None:
    with pytest.raises(ValueError, match="use Hita-U"):
        tiny_hita_tokenizer().predict_foundation(torch.rand(1, 6, 6))
    with pytest.raises(ValueError, match="predicted_width=24"):
        HitaTokenizerObjective(tiny_hita_tokenizer(predicted_width=8), HitaTokenizerObjectiveConfig())
    losses = HitaTokenizerObjective(tiny_hita_ultra_tokenizer(), HitaTokenizerObjectiveConfig())(
        IMAGES, 0, torch.Generator()
    )
    assert 0 < losses.parts["foundation"] < 2


def test_the_adversarial_term_is_softplus() -> None:
    """The weighted terms add up to the total; the discriminator's own loss is the hinge."""
    discriminator = torch.nn.Conv2d(3, 1, 4, stride=4)
    config = HitaTokenizerObjectiveConfig(adversarial=0.5, adversarial_start=0)
    model = tiny_hita_tokenizer()
    objective = HitaTokenizerObjective(model, config, discriminator=discriminator).eval()
    losses = objective(IMAGES, 0, torch.Generator())
    parts = losses.parts
    rec = model.decode_codes(
        *(q(v).codes for q, v in zip(
            (model.holistic_quantizer, model.patch_quantizer),
            (model.vectors(IMAGES).holistic, model.vectors(IMAGES).patches),
            strict=True,
        ))
    ) * 2 - 1  # fmt: skip
    assert torch.allclose(parts["adversarial"], F.softplus(-discriminator(rec)).mean())
    total = 2 * parts["mse"] + parts["codebook"] + parts["commitment"] + 0.5 * parts["adversarial"]
    assert torch.allclose(losses.total, total)
    real = F.relu(1 - discriminator(IMAGES * 2 - 1)).mean()
    assert losses.adversarial is not None
    assert torch.allclose(losses.adversarial, (real + F.relu(1 + discriminator(rec)).mean()) / 2)
