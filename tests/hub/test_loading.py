"""Proves that a name, an official file and a folder give back exactly the model whose weights they hold, through the
hub's own cache layout, and that what does not fit is refused in words that help.
"""

import hashlib
import shutil
from dataclasses import replace

import pytest
import torch

import smalti
from smalti.hub import FetchError, WeightsError, fingerprint, model_info, registry, save_official
from smalti.hub.registry import HubFile
from smalti.pipeline import ImageGenerator
from smalti.tokenizers.base import Tokenizer
from tests.hub.conftest import REPO, SETTINGS


@pytest.fixture
def files(tmp_path, tokenizer, generator):
    """The two models as their authors would publish them."""
    folder = tmp_path / "published"
    return save_official(tokenizer, folder / "vae.pth"), save_official(generator.generator, folder / "gen.pth")


def same(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    x, y = a.state_dict(), b.state_dict()
    return x.keys() == y.keys() and all(torch.equal(x[k], y[k]) for k in x)


def test_by_name_through_the_cache(files, hub_cache, tiny_entries, tokenizer, generator):
    for file in files:
        hub_cache(REPO, file)
    loaded = smalti.load("test/tok")
    assert isinstance(loaded, Tokenizer)
    assert same(loaded, tokenizer)
    assert loaded.name == "test/tok"
    assert loaded.fingerprint == fingerprint(tokenizer.state_dict())
    assert not loaded.training
    assert all(p.requires_grad for p in loaded.parameters())
    images = torch.rand(2, 3, 16, 16)
    assert torch.equal(loaded.encode(images).values, tokenizer.encode(images).values)

    gen = smalti.load("test/gen")
    assert isinstance(gen, ImageGenerator)
    assert same(gen.generator, generator.generator)
    assert same(gen.tokenizer, tokenizer)
    assert gen.settings == SETTINGS
    assert (gen.name, gen.license) == ("test/gen", "MIT")
    tokenizer.fingerprint = loaded.fingerprint
    assert torch.equal(gen.generate(classes=[1, 2], seed=5).images, generator.generate(classes=[1, 2], seed=5).images)


def test_a_real_published_layout_loads_by_name(hub_cache, tmp_path):
    entry = model_info("var/vqvae-256")
    from tests.hub.test_keymap import key_list

    # every key of the published file at full size; each tensor repeats one number, so that the file stays small
    state = {k: torch.full((1,) * v.ndim, 0.01, dtype=v.dtype).expand(v.shape) for k, v in key_list(entry.name).items()}
    torch.save(state, tmp_path / "vae_ch160v4096z32.pth")
    hub_cache("FoundationVision/var", tmp_path / "vae_ch160v4096z32.pth")
    loaded = smalti.load("var/vqvae-256")
    assert isinstance(loaded, Tokenizer)
    assert sum(p.numel() for p in loaded.parameters()) == 108_948_355
    assert loaded.resize.kernel == "lanczos"


def test_without_network_the_message_helps(hub_cache, tiny_entries, files):
    with pytest.raises(FetchError) as error:
        smalti.load("test/gen")
    text = str(error.value)
    assert "test/gen needs gen.pth from huggingface.co/someone/tiny" in text
    assert "no network" in text
    assert "smalti.load('/path/to/gen.pth', like='test/gen')" in text
    hub_cache(REPO, files[1])
    with pytest.raises(FetchError, match=r"test/tok needs vae\.pth"):
        smalti.load("test/gen")


def test_a_wrong_hash_is_refused(files, hub_cache, tiny_entries):
    hub_cache(REPO, files[0])
    right = hashlib.sha256(files[0].read_bytes()).hexdigest()
    registry.register(replace(tiny_entries[0], name="test/right", sha256=right))
    registry.register(replace(tiny_entries[0], name="test/wrong", sha256="0" * 64))
    assert smalti.load("test/right")
    with pytest.raises(ValueError, match=f"has sha256 {right}, but test/wrong is 0000"):
        smalti.load("test/wrong")


def test_an_official_file_is_recognized(files, tiny_entries, tokenizer, generator):
    loaded = smalti.load(files[0])
    assert isinstance(loaded, Tokenizer)
    assert same(loaded, tokenizer)
    assert loaded.name == str(files[0])
    gen = smalti.load(files[1])  # the tokenizer's file lies beside it
    assert isinstance(gen, ImageGenerator)
    assert same(gen.tokenizer, tokenizer)
    assert gen.tokenizer.name == str(files[0])
    assert gen.settings == SETTINGS


def test_an_official_file_with_an_explicit_tokenizer(files, tiny_entries, tmp_path, generator):
    alone = shutil.copy(files[1], tmp_path / "moved.pth")
    for tokenizer in (files[0], smalti.load(files[0])):
        gen = smalti.load(alone, tokenizer=tokenizer)  # type: ignore[arg-type]
        assert isinstance(gen, ImageGenerator)
        assert same(gen.generator, generator.generator)
    with pytest.raises(ValueError, match="is a generator"):
        smalti.load(alone, tokenizer=files[1])


def test_a_file_of_other_sizes_loads_with_its_config(files, tokenizer, generator):
    config = tokenizer.config
    with pytest.raises(WeightsError, match="fits no model known here"):
        smalti.load(files[0])
    loaded = smalti.load(files[0], config=config)
    assert isinstance(loaded, Tokenizer)
    assert same(loaded, tokenizer)
    gen = smalti.load(files[1], config=generator.generator.config, tokenizer=loaded)  # type: ignore[attr-defined]
    assert isinstance(gen, ImageGenerator)
    with pytest.raises(ValueError, match="needs the tokenizer it was trained on: pass tokenizer="):
        smalti.load(files[1], config=generator.generator.config)  # type: ignore[attr-defined]
    with pytest.raises(WeightsError, match="wrong shape"):
        smalti.load(files[0], config=replace(config, vocab=64))
    with pytest.raises(ValueError, match="no model or config"):
        smalti.load(files[0], config={"vocab": 64})


def test_wrapped_and_half_precision_files_load(tmp_path, tiny_entries, files, tokenizer):
    state = torch.load(files[0], weights_only=True)
    torch.save({"model": state, "ema": {k: v * 0 for k, v in state.items()}}, tmp_path / "both.pth")
    with pytest.raises(WeightsError, match="several sets"):
        smalti.load(tmp_path / "both.pth")
    assert same(smalti.load(tmp_path / "both.pth", wrapping="model"), tokenizer)  # type: ignore[arg-type]
    halves = {f"module.{k}": v.half() for k, v in state.items()}
    torch.save(halves, tmp_path / "half.pth")
    loaded = smalti.load(tmp_path / "half.pth", role="tokenizer")
    assert isinstance(loaded, Tokenizer)
    assert {v.dtype for v in loaded.state_dict().values()} == {torch.float32}
    gen = smalti.load(files[1], dtype=torch.bfloat16)
    assert isinstance(gen, ImageGenerator)
    assert next(gen.generator.parameters()).dtype == torch.bfloat16
    assert next(gen.tokenizer.parameters()).dtype == torch.float32


def test_a_checkpoint_with_missing_keys(tmp_path, files, tiny_entries):
    state = torch.load(files[0], weights_only=True)
    for key in [k for k in state if k.startswith("decoder.up.0")]:
        del state[key]
    torch.save(state, tmp_path / "cut.pth")
    with pytest.raises(WeightsError, match=r"cut\.pth do not fit the model\n\d+ missing:\n  decoder\.up\.\{\}"):
        smalti.load(tmp_path / "cut.pth", like="test/tok")


def test_arguments_that_make_no_sense(files, tiny_entries):
    with pytest.raises(ValueError, match="is a tokenizer, you asked for a generator"):
        smalti.load(files[0], like="test/tok", role="generator")
    with pytest.raises(ValueError, match="go with a file"):
        smalti.load("test/tok", like="var/d16")
    with pytest.raises(ValueError, match="leave out tokenizer="):
        smalti.load(files[0], tokenizer="var/vqvae-256")
    with pytest.raises(ValueError, match="tokenizers run in float32"):
        smalti.load(files[0], dtype=torch.float16)
    with pytest.raises(ValueError, match="did you mean test/tok"):
        smalti.load(files[0], like="tets/tok")


def test_a_pair_shares_one_tokenizer(files, hub_cache, tiny_entries):
    for file in files:
        hub_cache(REPO, file)
    settings = replace(SETTINGS, then="test/gen", handover=2)
    registry.register(replace(tiny_entries[1], name="test/pair", settings=settings))
    pair = smalti.load("test/pair")
    assert isinstance(pair, ImageGenerator)
    assert pair.then is not None
    assert pair.then.tokenizer is pair.tokenizer
    assert (pair.then.name, pair.settings.handover) == ("test/gen", 2)
    assert pair.generate(classes=[0], seed=1).images.shape == (1, 3, 16, 16)


def test_official_to_ours_and_back_is_exact(files, tiny_entries, tmp_path):
    for file, suffix in ((files[0], "pth"), (files[1], "safetensors")):
        model = smalti.load(file)
        module = model.generator if isinstance(model, ImageGenerator) else model
        again = save_official(module, tmp_path / f"again.{suffix}")
        before = torch.load(file, weights_only=True)
        from smalti.hub.pickles import read_weights

        after = read_weights(again)
        assert before.keys() == after.keys()
        assert all(torch.equal(before[k], after[k]) for k in before)
    with pytest.raises(ValueError, match=r"as \.safetensors, \.pth or \.pt"):
        save_official(module, tmp_path / "x.bin")


def test_fingerprints_tell_weights_apart():
    state = {"a": torch.zeros(2, 3), "b": torch.ones(1, dtype=torch.bfloat16), "n": torch.tensor(3)}
    base = fingerprint(state)
    assert base == fingerprint(dict(reversed(state.items())))
    assert base == fingerprint({**state, "a": torch.zeros(3, 2).T})
    others = [
        {**state, "a": torch.zeros(3, 2)},
        {**state, "a": torch.full((2, 3), -0.0)},
        {**state, "n": torch.tensor(3, dtype=torch.int32)},
        {"c": state["a"], "b": state["b"], "n": state["n"]},
    ]
    assert len({base, *map(fingerprint, others)}) == 5


def test_hub_source_is_shown():
    assert str(HubFile(repo="a/b", file="c.pth")) == "huggingface.co/a/b: c.pth"


def test_a_generator_given_as_tokenizer_is_named(files, tiny_entries):
    for file, role, kind, name in zip(
        files, ("generator", "tokenizer"), ("tokenizer", "generator"), ("test/tok", "test/gen"), strict=True
    ):
        with pytest.raises(WeightsError, match=rf"is a {kind} file \({name}\), you asked for a {role}"):
            smalti.load(file, role=role)
