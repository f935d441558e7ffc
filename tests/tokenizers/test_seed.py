"""Proves that SEED's decode is the stock diffusers pipeline on the same embeddings, noise level, negatives and start
noise, and what its options, its pipeline and its causal order promise.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.pipelines.stable_diffusion.pipeline_stable_unclip_img2img import StableUnCLIPImg2ImgPipeline
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from diffusers.schedulers.scheduling_euler_ancestral_discrete import EulerAncestralDiscreteScheduler
from diffusers.schedulers.scheduling_pndm import PNDMScheduler
from torch import Generator, Tensor, nn
from transformers import BertConfig, BertModel

from smalti.nn.quantizers.base import nearest_code
from smalti.nn.rendering import noise_sources
from smalti.tokenizers.seed.alignment import SEEDAlignmentObjective, SEEDAlignmentObjectiveConfig, TextHalf
from smalti.tokenizers.seed.model import SEEDTokenizer
from smalti.tokenizers.seed.objective import SEEDTokenizerObjective, SEEDTokenizerObjectiveConfig
from smalti.tokenizers.seed.unclip import CLIPEmbedding, UnCLIPOptions
from smalti.tokens import Tokens
from tests.tiny.seed import SIDE, tiny_pixels, tiny_seed, tiny_unclip

COUNT = 3


class WithNegatives(StableUnCLIPImg2ImgPipeline):
    """The stock pipeline with embeddings instead of zeros in the rows without condition, as the authors patched it."""

    negatives: Tensor
    noise: Tensor

    def _encode_image(self, *args: Any, **settings: Any) -> Tensor:
        rows = super()._encode_image(*args, **settings)
        level = int(settings["noise_level"])
        return torch.cat([self.noise_image_embeddings(self.negatives, level, self.noise), rows[len(self.negatives) :]])


def tokens_of(tokenizer: SEEDTokenizer, seed: int = 0) -> Tokens:
    """Random tokens."""
    config = tokenizer.config
    rng = Generator().manual_seed(seed)
    return Tokens(layout=tokenizer.layout(), ids=torch.randint(config.vocab, (COUNT, config.queries), generator=rng))


def stock(pipeline: StableUnCLIPImg2ImgPipeline, embeddings: Tensor, rng: Generator | None, **settings: Any) -> Tensor:
    """What the pipeline makes of the embeddings when it draws its own noise, one generator per image."""
    pipeline.set_progress_bar_config(disable=True)
    made = pipeline(
        prompt=[""] * len(embeddings),
        image_embeds=embeddings,
        generator=noise_sources(len(embeddings), rng),
        output_type="np",
        **settings,
    ).images
    return torch.from_numpy(np.asarray(made)).permute(0, 3, 1, 2)


@pytest.mark.parametrize(
    ("scheduler", "settings", "seed"),
    [
        (None, {}, None),
        (None, {"num_inference_steps": 3, "guidance_scale": 2.5, "noise_level": 700}, 4),
        (PNDMScheduler, {"num_inference_steps": 4, "guidance_scale": 1.0}, 5),
        (DDPMScheduler, {"num_inference_steps": 3, "noise_level": 10}, 6),
        (EulerAncestralDiscreteScheduler, {"num_inference_steps": 3}, None),
    ],
)
def test_decode_is_the_stock_pipeline(scheduler: Any, settings: dict[str, Any], seed: int | None) -> None:
    """With the authors' settings and others, guidance or none, and schedulers that scale or add noise."""
    tokenizer = tiny_seed()
    tokenizer.pipeline = pipeline = tiny_unclip()
    if scheduler:
        pipeline.register_modules(scheduler=scheduler.from_config(pipeline.scheduler.config))  # type: ignore[attr-defined]
    tokens = tokens_of(tokenizer)
    names = {"num_inference_steps": "steps"}
    options = UnCLIPOptions(**{names.get(k, k): v for k, v in settings.items()}) if settings else None
    rng = (lambda: Generator().manual_seed(seed)) if seed is not None else (lambda: None)
    ours = tokenizer.decode(tokens, options=options, rng=rng())
    theirs = stock(pipeline, tokenizer.embed(tokens), rng(), **settings)
    assert ours.shape == (COUNT, 3, SIDE, SIDE)
    assert ours.std() > 0.05, "a flat image would prove nothing"
    assert (ours[0] - ours[1]).abs().max() > 1e-2, "the embedding has an influence"
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


def test_negative_tokens_replace_the_zeros() -> None:
    """They pass the noise level too; one image of them serves all."""
    tokenizer = tiny_seed()
    tokenizer.pipeline = tiny_unclip()
    tokens, negative = tokens_of(tokenizer), tokens_of(tokenizer, seed=1)
    options = UnCLIPOptions(steps=3, noise_level=50, negative=negative)
    ours = tokenizer.decode(tokens, options=options, rng=Generator().manual_seed(7))

    theirs = WithNegatives(**tokenizer.pipeline.components)
    embeddings = tokenizer.embed(tokens)
    theirs.negatives = tokenizer.embed(negative)
    sources = noise_sources(COUNT, Generator().manual_seed(7))
    theirs.noise = torch.stack([torch.randn(embeddings.shape[1], generator=s) for s in sources])
    settings = {"num_inference_steps": 3, "noise_level": 50}
    torch.testing.assert_close(
        ours, stock(theirs, embeddings, Generator().manual_seed(7), **settings), atol=1e-5, rtol=0
    )

    one = tokenizer.decode(tokens, options=UnCLIPOptions(steps=3, negative=negative[0]))
    alone = tokenizer.decode(tokens[2], options=UnCLIPOptions(steps=3, negative=negative[0]))
    torch.testing.assert_close(one[2:], alone, atol=1e-5, rtol=0)
    assert (one - tokenizer.decode(tokens, options=UnCLIPOptions(steps=3))).abs().max() > 1e-2


def test_a_generator_draws_other_noise_for_every_image() -> None:
    """Without one, equal tokens give equal images; with one they differ, and its seed repeats them."""
    tokenizer = tiny_seed()
    twice = Tokens(layout=tokenizer.layout(), ids=torch.zeros(2, tokenizer.config.queries, dtype=torch.int64))
    options = UnCLIPOptions(steps=2)
    plain = tokenizer.decode(twice, options=options)
    torch.testing.assert_close(plain[0], plain[1], atol=1e-5, rtol=0)
    drawn = tokenizer.decode(twice, options=options, rng=Generator().manual_seed(3))
    assert (drawn[0] - drawn[1]).abs().max() > 1e-2
    assert torch.equal(drawn, tokenizer.decode(twice, options=options, rng=Generator().manual_seed(3)))


def test_wrong_requests_are_refused(tmp_path: Path) -> None:
    """Options, sizes, pipelines and places that do not fit."""
    tokenizer = tiny_seed()
    tokens = tokens_of(tokenizer)
    for settings, words in (
        ({"options": 3}, "UnCLIPOptions"),
        ({"size": 32}, "16 pixels only"),
        ({"options": UnCLIPOptions(noise_level=1000)}, "0 to 999"),
        ({"options": UnCLIPOptions(negative=tokens[:2])}, "1 or 3 images"),
    ):
        with pytest.raises(ValueError, match=words):
            tokenizer.decode(tokens, **settings)  # type: ignore[arg-type]
    other = tiny_seed(embedding_channels=12)
    with pytest.raises(ValueError, match="20 channels, the tokenizer makes 12"):
        other.decode(tokens)
    with pytest.raises(OSError, match=r"tokenizer\.pipeline = "):
        tiny_seed(pixels=str(tmp_path)).decode(tokens)


def test_the_pipeline_is_no_part_of_the_weights() -> None:
    """Nothing is loaded before it is needed, and nothing of it is saved."""
    tokenizer = tiny_seed()
    before = set(tokenizer.state_dict())
    assert tokenizer._pipeline is None
    tokenizer.decode(tokens_of(tokenizer), options=UnCLIPOptions(steps=1))
    assert tokenizer._pipeline is not None
    assert set(tokenizer.state_dict()) == before


def test_queries_see_only_those_before_them() -> None:
    """Other late queries leave early features bit-identical; without causality they do not."""
    images = torch.rand(2, 3, SIDE, SIDE, generator=Generator().manual_seed(2))
    for causal in (True, False):
        tokenizer = tiny_seed(causal=causal)
        with torch.no_grad():
            before = tokenizer.features(images)
            tokenizer.queries[:, 5:] += 1
            after = tokenizer.features(images)
        assert torch.equal(before[:, :5], after[:, :5]) == causal
        assert not torch.equal(before[:, 5:], after[:, 5:])


def test_the_objective_is_the_sum_that_it_states() -> None:
    """5 L_quantization + 2 L_restoration + 0.5 L_embedding, each computed here by hand; the encoder stays frozen."""
    tokenizer = tiny_seed()
    objective = SEEDTokenizerObjective(tokenizer, SEEDTokenizerObjectiveConfig())
    images = torch.rand(2, 3, SIDE, SIDE, generator=Generator().manual_seed(2))
    losses = objective(images, 0, Generator())
    with torch.no_grad():
        f = tokenizer.features(images)
        z = tokenizer.to_code(f)
        e = tokenizer.codebook[nearest_code(z, tokenizer.codebook)]
        quantization = 1.25 * (z - e).square().mean()
        assert tokenizer.restore is not None
        restored = tokenizer.restore(tokenizer.from_code(e))
        restoration = 1 - ((restored / restored.norm(dim=-1, keepdim=True)) * (f / f.norm(dim=-1, keepdim=True))).sum(
            -1
        )
        wanted = CLIPEmbedding(tiny_pixels())(images)
        embedding = (tokenizer.embed(tokenizer.encode(images)) - wanted).square().mean()
        total = 5 * quantization + 2 * restoration.mean() + 0.5 * embedding
    torch.testing.assert_close(losses.total.detach(), total, atol=1e-5, rtol=1e-5)
    losses.total.backward()
    frozen = [n for n, p in tokenizer.named_parameters() if p.grad is None]
    assert frozen
    assert all(n.startswith(("vit", "qformer", "queries")) for n in frozen)


def test_the_text_half_is_bert() -> None:
    """With the same weights it computes what transformers' BERT does, padding included."""
    tokenizer = tiny_seed()
    config = tokenizer.config
    text = TextHalf(config, words=11, positions=9)
    sizes = {"hidden_size": config.width, "num_hidden_layers": config.depth, "num_attention_heads": config.heads}
    settings = {"intermediate_size": config.mlp_width, "vocab_size": 11, "max_position_embeddings": 9}
    bert = BertModel(BertConfig(**sizes, **settings, layer_norm_eps=config.norm_eps)).eval()  # type: ignore[arg-type]
    nn.init.zeros_(bert.embeddings.token_type_embeddings.weight)
    pairs: list[tuple[nn.Module, nn.Module]] = [
        (bert.embeddings.word_embeddings, text.words),
        (bert.embeddings.position_embeddings, text.positions),
        (bert.embeddings.LayerNorm, tokenizer.qformer.norm),
    ]
    for theirs, shared, own in zip(bert.encoder.layer, tokenizer.qformer.layers, text.feed_forwards, strict=True):
        attention: Any = shared.attention
        pairs += zip(
            (theirs.attention.self.query, theirs.attention.self.key, theirs.attention.self.value),
            (attention.query, attention.key, attention.value),
            strict=True,
        )
        pairs += [(theirs.attention.output.dense, attention.proj), (theirs.attention.output.LayerNorm, attention.norm)]
        feed_forward: Any = own
        pairs += [(theirs.intermediate.dense, feed_forward.up), (theirs.output.dense, feed_forward.down)]
        pairs += [(theirs.output.LayerNorm, feed_forward.norm)]
    for theirs, ours in pairs:
        theirs.load_state_dict(ours.state_dict())
    ids = torch.randint(11, (COUNT, 7), generator=Generator().manual_seed(1))
    mask = torch.arange(7) < torch.tensor([7, 4, 1])[:, None]
    with torch.no_grad():
        wanted = bert(ids, attention_mask=mask.long()).last_hidden_state[:, 0]
        torch.testing.assert_close(text(tokenizer.qformer, ids, mask), wanted, atol=1e-5, rtol=1e-5)


def test_the_alignment_trains_the_causal_qformer() -> None:
    """Matching pairs lower the loss, and every part that the first stage trains gets a gradient."""
    tokenizer = tiny_seed()
    objective = SEEDAlignmentObjective(tokenizer, SEEDAlignmentObjectiveConfig(words=11, positions=9, channels=6))
    images = torch.rand(COUNT, 3, SIDE, SIDE, generator=Generator().manual_seed(2))
    ids = torch.randint(11, (COUNT, 7), generator=Generator().manual_seed(1))
    batch = (images, ids, torch.ones_like(ids, dtype=torch.bool))
    trained = [p for p in objective.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(trained, 1e-2)
    values = []
    for step in range(8):
        loss = objective(batch, step, Generator()).total
        values.append(float(loss.detach()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert values[-1] < values[0] * 0.9, values
    dead = [n for n, p in objective.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
    assert dead == []
    assert not any(p.requires_grad for p in (*tokenizer.vit.parameters(), tokenizer.codebook))
