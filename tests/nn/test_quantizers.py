"""Proves that every quantizer gives the ids and codes of vector-quantize-pytorch, an independent implementation, that
it decides them in float32 under autocast and fits the one interface, and that a convolutional tokenizer can have any.
"""

import json
from dataclasses import asdict
from itertools import pairwise

import pytest
import torch
import vector_quantize_pytorch as oracle
from torch import Tensor, nn

from smalti.hub import from_pretrained, save_pretrained
from smalti.hub.families import config_from_dict
from smalti.nn.quantizers.base import Quantizer
from smalti.nn.quantizers.bsq import BSQ
from smalti.nn.quantizers.config import FSQConfig, LFQConfig, VQConfig, build_quantizer
from smalti.nn.quantizers.fsq import FSQ
from smalti.nn.quantizers.lfq import LFQ
from smalti.nn.quantizers.multiscale import MultiScaleQuantizer
from smalti.nn.quantizers.residual import ResidualQuantizer
from smalti.nn.quantizers.vq import VectorQuantizer
from smalti.tokenizers.llamagen.config import LlamaGenTokenizerConfig
from smalti.tokenizers.llamagen.objective import LlamaGenTokenizerObjective, LlamaGenTokenizerObjectiveConfig
from smalti.tokens import Tokens
from tests.tiny.llamagen import tiny_llamagen_tokenizer


def vectors(*shape: int, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(0))


def vq(normalize: bool = False, decay: float = 0.0, seed: int = 1) -> VectorQuantizer:
    torch.manual_seed(seed)
    quantizer = VectorQuantizer(32, 6, normalize=normalize, decay=decay, remembered=64)
    with torch.no_grad():
        quantizer.codebook.copy_(quantizer.unit(torch.randn(32, 6)))
        if decay:
            quantizer.sums.copy_(quantizer.codebook)
    return quantizer


def stock_vq(ours: VectorQuantizer, decay: float) -> oracle.VectorQuantize:
    theirs = oracle.VectorQuantize(
        6, 32, decay=decay, use_cosine_sim=ours.normalize, rotation_trick=False, commitment_weight=1.0
    )
    theirs._codebook.embed.data.copy_(ours.codebook.detach()[None])
    theirs._codebook.embed_avg.copy_(ours.codebook.detach()[None])
    return theirs


@pytest.mark.parametrize("normalize", [False, True])
def test_vq_with_a_codebook_that_follows_moving_averages(normalize):
    ours, z = vq(normalize, decay=0.7), vectors(4, 50, 6)
    theirs = stock_vq(ours, 0.7)
    for step in range(3):
        batch = vectors(4, 50, 6) + 0.1 * step
        codes, ids, commitment = theirs.train()(batch)
        q = ours.train()(batch)
        assert torch.equal(q.ids, ids)
        if not normalize:  # theirs is of vectors that were not brought to length 1
            assert torch.allclose(q.commitment, commitment, rtol=1e-5)
        assert torch.allclose(ours.codebook, theirs._codebook.embed[0], atol=1e-6), step
    assert torch.allclose(ours.counts, theirs._codebook.cluster_size[0])
    codes, ids, _ = theirs.eval()(z)
    q = ours.eval()(z)
    assert torch.equal(q.ids, ids) and torch.allclose(q.codes, codes, atol=1e-6)
    assert torch.allclose(theirs.get_codes_from_indices(ids), ours.codes_of(q.ids), atol=1e-6)
    assert not ours.codebook.requires_grad and q.codebook == 0


@pytest.mark.parametrize("shared", [False, True])
def test_residual_vq(shared):
    levels = [vq(seed=i) for i in range(1 if shared else 3)]
    ours, z = ResidualQuantizer(levels, depth=3), vectors(2, 40, 6, scale=2.0)
    theirs = oracle.ResidualVQ(dim=6, num_quantizers=3, codebook_size=32, rotation_trick=False).eval()
    for i, layer in enumerate(theirs.layers):
        layer._codebook.embed.data.copy_(ours.level(i).codebook.detach()[None])  # type: ignore[union-attr]
    codes, ids, _ = theirs(z)
    q = ours(z)
    assert torch.equal(q.ids, ids) and q.ids.shape == (2, 40, 3) and ours.each == (3,)
    assert torch.allclose(q.codes, codes, atol=1e-5)
    assert torch.allclose(ours.codes_of(q.ids), codes, atol=1e-5)
    sums = torch.stack([ours.codes_of(q.ids[..., : i + 1]) for i in range(3)])
    assert torch.allclose(q.commitment, (z - sums).square().mean(), rtol=1e-5)  # eq. 7, by hand


def test_fsq():
    ours, theirs, z = FSQ((8, 5, 7, 4)), oracle.FSQ([8, 5, 7, 4]), vectors(3, 60, 4, scale=2.0)
    codes, ids = theirs(z)
    q = ours(z)
    assert torch.equal(q.ids, ids.long()) and torch.allclose(q.codes, codes, atol=1e-6)
    assert torch.equal(theirs.indices_to_codes(ids), ours.codes_of(q.ids))
    assert torch.allclose(ours.mean(), theirs.implicit_codebook.mean(0), atol=1e-6)


@pytest.mark.parametrize("spherical", [False, True])
def test_lfq_and_bsq(spherical):
    ours = (BSQ if spherical else LFQ)(7, temperature=0.5)
    theirs = oracle.LFQ(dim=7, spherical=spherical, commitment_loss_weight=1.0).train()
    z = vectors(2, 80, 7, scale=0.3)
    (codes, ids, _), losses = theirs(z, inv_temperature=2.0, return_loss_breakdown=True)
    q = ours(z)
    assert torch.equal(q.ids, ids.long()) and torch.allclose(q.codes, codes, atol=1e-6)
    assert torch.allclose(theirs.indices_to_codes(ids), ours.codes_of(q.ids))
    assert torch.allclose(q.commitment, losses.commitment, rtol=1e-5)
    assert torch.allclose(q.entropy, losses.per_sample_entropy - losses.batch_entropy, atol=1e-4)
    grouped = (BSQ if spherical else LFQ)(7, temperature=0.5, group=3)(z).entropy
    assert grouped <= q.entropy + 1e-6, "groups bound the entropy of the batch from above"


@pytest.mark.parametrize("kind", [LFQ, BSQ])
def test_codes_too_wide_for_an_int64_are_kept_as_bits(kind):
    z = vectors(2, 3, 100)
    wide, widest = kind(100), kind(62)
    q = wide(z)
    assert (wide.vocab, wide.each, q.ids.shape) == (2, (100,), (2, 3, 100))
    assert torch.equal(q.ids, (z > 0).long()) and torch.allclose(wide.codes_of(q.ids), q.codes)
    assert (widest.vocab, widest.each) == (2**62, ())
    ids = widest.nearest(torch.ones(1, 62))
    assert ids.item() == 2**62 - 1 and (widest.codes_of(ids) > 0).all()


QUANTIZERS: dict[str, Quantizer] = {
    "vq": vq(),
    "cosine vq": vq(True),
    "residual": ResidualQuantizer([vq(), vq(seed=2)]),
    "fsq": FSQ((4, 5, 3, 4, 5, 3)),
    "lfq": LFQ(6),
    "bsq": BSQ(6),
    "wide": LFQ(80),
    "multiscale": MultiScaleQuantizer((1, 2, 4), 32, 6, refiners=3),
    "multiscale, swept": MultiScaleQuantizer((1, 2, 4), 32, 6, refiners=3, sweeps=2),
}


@pytest.mark.parametrize("name", QUANTIZERS)
def test_one_interface(name):
    quantizer = QUANTIZERS[name]
    z = vectors(3, 4, 4, quantizer.width, scale=2.0).requires_grad_()
    q = quantizer(z)
    assert torch.equal(q.ids, quantizer.nearest(z)) and q.ids.dtype == torch.int64
    if not name.startswith("multiscale"):
        assert q.ids.shape == (3, 4, 4, *quantizer.each)
    assert 0 <= q.ids.min() <= q.ids.max() < quantizer.vocab
    assert torch.allclose(quantizer.codes_of(q.ids), q.codes, atol=1e-5)
    assert quantizer.mean().shape == (quantizer.width,)
    assert all(loss.shape == () for loss in (q.codebook, q.commitment, q.entropy))
    (q.codes.sum() + q.codebook + q.commitment + q.entropy).backward()
    assert z.grad is not None and (z.grad != 0).any()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(quantizer.nearest(z), q.ids) and torch.equal(quantizer(z).ids, q.ids)
        assert quantizer(z).codes.dtype == torch.float32


def test_leading_scales_give_a_coarser_grid():
    quantizer = QUANTIZERS["multiscale"]
    ids = quantizer.nearest(vectors(2, 4, 4, 6))
    assert ids.shape == (2, 21)
    coarse = quantizer.codes_of(ids[:, :1])
    assert coarse.shape == (2, 4, 4, 6) and not torch.allclose(coarse, quantizer.codes_of(ids))


def test_sweeps_bring_every_map_nearer_until_no_other_code_would():
    """The error of one map never grows with the passes; where it no longer falls, brute force finds nothing better."""
    quantizer = MultiScaleQuantizer((1, 2, 4), 32, 6, refiners=3).requires_grad_(False)
    nn.init.normal_(quantizer.codebook, generator=torch.Generator().manual_seed(2))
    rest = vectors(2, 6, 4, 4)

    def error(k, ids):
        return (rest - quantizer.embed(k, ids)).square().sum((1, 2, 3))

    for k in range(3):
        errors = []
        for quantizer.sweeps in (0, 1, 2, 20):
            ids = quantizer.choose(k, rest)
            errors.append(error(k, ids))
        assert all((b <= a + 1e-4).all() for a, b in pairwise(errors))
        for place in range(ids.shape[1]):
            others = torch.stack([error(k, ids.index_fill(1, torch.tensor(place), code)) for code in range(32)])
            assert (others.min(0).values >= errors[-1] - 1e-4).all()
    quantizer.sweeps = 0
    published = quantizer.nearest(rest.movedim(1, -1))
    quantizer.sweeps = 2
    swept = quantizer.nearest(rest.movedim(1, -1))
    errors = [(rest - quantizer.codes_of(ids).movedim(-1, 1)).square().sum() for ids in (published, swept)]
    assert errors[1] < 0.95 * errors[0]


@pytest.mark.parametrize("decay", [0.0, 0.9])
def test_dead_codes_are_revived(decay):
    quantizer, z, rng = vq(decay=decay), vectors(64, 6), torch.Generator().manual_seed(0)
    ids = torch.arange(64) % 5
    quantizer.remember(ids)
    kept = quantizer.codebook[:5].clone()
    assert quantizer.revive(z, rng) == 27
    assert torch.equal(quantizer.codebook[:5], kept)
    assert (quantizer.codebook[5:, None] == z).all(-1).any(-1).all()
    with pytest.raises(ValueError, match="remembers no ids"):
        VectorQuantizer(4, 2, remembered=0).revive(torch.zeros(3, 2), rng)


CHOICES = {
    "moving averages": VQConfig(vocab=16, width=4, decay=0.9, remembered=32),
    "residual": VQConfig(vocab=16, width=4, depth=3, remembered=0, shared=True),
    "fsq": FSQConfig(levels=(5, 4, 3)),
    "lfq": LFQConfig(bits=5),
    "bsq": LFQConfig(bits=70, spherical=True),
}


@pytest.mark.parametrize("name", CHOICES)
def test_a_convolutional_tokenizer_with_any_quantizer(name, tmp_path):
    choice = CHOICES[name]
    tokenizer = tiny_llamagen_tokenizer(quantizer=choice)
    plain = json.loads(json.dumps(asdict(tokenizer.config)))
    assert config_from_dict(LlamaGenTokenizerConfig, plain) == tokenizer.config
    images = torch.rand(2, 3, 16, 24, generator=torch.Generator().manual_seed(0))
    tokens = tokenizer.encode(images)
    quantizer = build_quantizer(choice)
    assert tokens.layout.segments[0].shape == (4, 6, *quantizer.each)
    assert tokens.layout.segments[0].vocab == quantizer.vocab
    assert tokenizer.decode(tokens).shape == images.shape
    save_pretrained(tokenizer, tmp_path, name="test/model", license="MIT")
    assert torch.equal(from_pretrained(tmp_path).encode(images).values, tokens.values)  # type: ignore[union-attr]
    assert tokens.ids is not None
    begun = Tokens(layout=tokens.layout, ids=tokens.ids[:, : tokens.layout.length // 2].clone())
    assert (tokenizer.preview(begun)[..., 8:, :] == 0.5).all()
    tokenizer.train()
    entropy = 0.1 if name in ("lfq", "bsq", "moving averages") else 0.0
    revive = 1 if name == "moving averages" else 0
    config = LlamaGenTokenizerObjectiveConfig(entropy=entropy, revive_every=revive)
    objective, rng = LlamaGenTokenizerObjective(tokenizer, config), torch.Generator().manual_seed(0)
    objective(images, 0, rng).total.backward()
    assert all((p.grad != 0).any() for p in tokenizer.encoder.parameters() if p.grad is not None)
    assert bool(objective.after_step(0, rng)) == bool(revive)


def test_losses_that_a_quantizer_does_not_have_are_refused():
    tokenizer = tiny_llamagen_tokenizer(quantizer=CHOICES["residual"])
    for weights, words in (({"entropy": 0.1}, "no entropy loss"), ({"revive_every": 5}, "can be revived")):
        with pytest.raises(ValueError, match=words):
            LlamaGenTokenizerObjective(tokenizer, LlamaGenTokenizerObjectiveConfig(**weights))  # type: ignore[arg-type]


def test_quantizers_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="do not fit into an int64"):
        FSQ((8,) * 21)
    with pytest.raises(ValueError, match="at least 1"):
        LFQ(0)
    with pytest.raises(ValueError, match="same width"):
        ResidualQuantizer([vq(), VectorQuantizer(32, 5)])
    with pytest.raises(ValueError, match="depth must be at least 2"):
        ResidualQuantizer([vq(), vq()], depth=1)
