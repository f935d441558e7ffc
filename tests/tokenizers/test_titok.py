"""TiTok beyond its goldens: text for TA-TiTok, sampling of KL latents, and what its objective adds."""

from pathlib import Path

import pytest
import torch

from smalti.tokenizers.titok.config import PUBLISHED, SMALL, TiTokConfig, ViTSize
from smalti.tokenizers.titok.model import TextOptions
from smalti.tokenizers.titok.objective import STAGES, TiTokBatch, TiTokObjective, TiTokObjectiveConfig
from tests.tiny.clip import save_tiny_clip
from tests.tiny.maskgit import tiny_maskgit_tokenizer
from tests.tiny.titok import tiny_titok

IMAGES = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(3))
RNG = torch.Generator()


@pytest.fixture(scope="module")
def tiny_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as transformers writes it."""
    return save_tiny_clip(tmp_path_factory.mktemp("clip"))


def test_text_changes_the_image_and_one_text_serves_all() -> None:
    """Features for every image, or one for all; without, the decoder reads no text."""
    model = tiny_titok("titok text")
    tokens, features = model.encode(IMAGES), torch.randn(1, 5, 12, generator=RNG)
    plain = model.decode(tokens)
    one = model.decode(tokens, options=TextOptions(features=features))
    each = model.decode(tokens, options=TextOptions(features=features.expand(2, -1, -1)))
    assert torch.allclose(one, each, atol=1e-5)
    assert not torch.allclose(one, plain, atol=1e-3)


def test_wrong_text_is_refused() -> None:
    """Each error says what is allowed."""
    model, plain = tiny_titok("titok text"), tiny_titok()
    tokens = model.encode(IMAGES)
    features = torch.zeros(1, 5, 12)
    for options, words in (
        (TextOptions(features=torch.zeros(2, 4, 12)), r"\[1 or 2, 5, 12\].*got \[2, 4, 12\]"),
        (TextOptions(captions=("a cat",)), "no text encoder"),
        (TextOptions(captions=("a cat",), features=features), "leave one"),
        ("a cat", "got str"),
    ):
        with pytest.raises(ValueError, match=words):
            model.decode(tokens, options=options)
    with pytest.raises(ValueError, match="has no decode options, got TextOptions"):
        plain.decode(plain.encode(IMAGES), options=TextOptions(features=features))


def test_captions_go_through_the_clip_that_the_config_names(tiny_clip: Path) -> None:
    """No options is the empty caption; its features can be given as well."""
    from smalti.text.clip import CLIPText

    model = tiny_titok("titok text", text_encoder=str(tiny_clip))
    tokens = model.encode(IMAGES)
    clip = CLIPText.load(str(tiny_clip))
    features = clip.features(["", "a cat"])
    empty = model.decode(tokens)
    given = model.decode(tokens, options=TextOptions(features=clip.features([""])))
    assert torch.allclose(empty, given, atol=1e-5)
    both = model.decode(tokens, options=TextOptions(captions=("", "a cat")))
    assert torch.allclose(both, model.decode(tokens, options=TextOptions(features=features)), atol=1e-5)
    assert not torch.allclose(both[1], empty[1], atol=1e-3)


def test_latents_are_the_mode_unless_a_generator_is_given() -> None:
    """With one they are mean + std * noise, the same for the same seed."""
    model = tiny_titok("titok kl")
    mean, logvar = (x.detach() for x in model.posterior(IMAGES))
    tokens = model.encode(IMAGES)
    assert torch.equal(tokens.latents, mean)  # type: ignore[arg-type]
    drawn, again = (model.encode(IMAGES, rng=torch.Generator().manual_seed(7)).latents for _ in range(2))
    noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(7))
    assert torch.equal(drawn, again)  # type: ignore[arg-type]
    assert torch.allclose(drawn, mean + (logvar / 2).exp() * noise)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no posterior"):
        tiny_titok().posterior(IMAGES)


def test_the_first_stage_learns_the_codes_of_a_vqgan() -> None:
    """Given codes, or a tokenizer that makes them; the pixel decoder is not touched."""
    model = tiny_titok("titok legacy", pixel_vocab=64, pixel_multipliers=(1, 1, 2))
    vqgan = tiny_maskgit_tokenizer()
    codes = vqgan.encode(IMAGES).ids
    with_codes = TiTokObjective(model, STAGES["proxy"])(TiTokBatch(images=IMAGES, codes=codes), 0, RNG)
    losses = TiTokObjective(model, STAGES["proxy"], proxy=vqgan)(IMAGES, 0, RNG)
    assert torch.equal(losses.total, with_codes.total)
    assert set(losses.parts) == {"proxy", "quantization", "commitment"}
    losses.total.backward()
    assert model.pixel_codebook.grad is None and model.encoder.latents.grad is not None
    with pytest.raises(ValueError, match="needs the VQGAN's codes"):
        TiTokObjective(model, STAGES["proxy"])(IMAGES, 0, RNG)
    with pytest.raises(ValueError, match="only legacy models"):
        TiTokObjective(tiny_titok(), STAGES["proxy"])


def test_text_of_a_batch_reaches_its_parameters() -> None:
    """Images alone leave them without a gradient."""
    model = tiny_titok("titok text")
    batch = TiTokBatch(images=IMAGES, text=torch.randn(2, 5, 12, generator=RNG))
    TiTokObjective(model, TiTokObjectiveConfig())(batch, 0, RNG).total.backward()
    assert model.decoder.text_positions.grad is not None and model.decoder.text_embed.weight.grad.abs().sum() > 0


def test_lecam_by_hand() -> None:
    """relu(2 - 0)^2 + relu(0 + 1)^2 = 5 on top of the hinge; running means move by a thousandth, in training only."""
    objective = TiTokObjective(tiny_titok(), TiTokObjectiveConfig(lecam=0.1))
    real, fake = torch.full((4, 1), 2.0), torch.full((4, 1), -1.0)
    objective.eval()
    assert torch.allclose(objective.discriminator_loss(real, fake), torch.tensor(0.1 * 5.0))
    assert objective.lecam_real == 0
    objective.train().discriminator_loss(real, fake)
    assert torch.allclose(torch.stack([objective.lecam_real, objective.lecam_fake]), torch.tensor([0.002, -0.001]))


def test_clustering_moves_dead_codes_to_features_of_the_batch() -> None:
    """Codes in use stay where they are."""
    model = tiny_titok()
    objective = TiTokObjective(model, TiTokObjectiveConfig(clustering=True)).train()
    before = model.quantizer.codebook.detach().clone()
    objective(IMAGES, 0, RNG)
    z_NC = model.features(IMAGES).detach().flatten(0, 1)
    used = model.quantizer.nearest(z_NC).unique()
    objective.after_step(0, RNG)
    after = model.quantizer.codebook.detach()
    assert torch.allclose(after[used], before[used], atol=1e-4)
    dead = torch.ones(len(after), dtype=torch.bool)
    dead[used] = False
    left, pulled = ((codes[dead][:, None] - z_NC).norm(dim=-1).amin(1) for codes in (before, after))
    assert (pulled <= 0.0011 * left).all()
    with pytest.raises(ValueError, match="no codebook"):
        TiTokObjective(tiny_titok("titok kl"), TiTokObjectiveConfig(clustering=True))


def test_impossible_sizes_are_refused() -> None:
    """With both numbers in the message."""
    with pytest.raises(ValueError, match="65 channels and 8 heads"):
        ViTSize(width=65, depth=1, heads=8)
    with pytest.raises(ValueError, match="got 16 and 250"):
        TiTokConfig(image_size=250)
    with pytest.raises(ValueError, match="4 levels make cells of 8 pixels"):
        TiTokConfig(pixel_multipliers=(1, 1, 2, 4))
    assert PUBLISHED["s128"].encoder == SMALL


def test_the_vqgan_takes_any_multiple_of_its_stride() -> None:
    """And says so otherwise; it has no options."""
    model = tiny_maskgit_tokenizer()
    images = torch.rand(1, 3, 16, 24, generator=RNG)
    tokens = model.encode(images)
    assert tokens.layout.segments[0].shape == (4, 6) and model.decode(tokens).shape == images.shape
    with pytest.raises(ValueError, match="leave out size="):
        model.decode(tokens, size=32)
    with pytest.raises(ValueError, match="has no decode options, got str"):
        model.decode(tokens, options="any")
