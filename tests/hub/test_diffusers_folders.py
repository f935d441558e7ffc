"""Proves that an autoencoder loads as diffusers writes it: alone or in a pipeline, from a folder, a file or the hub,
with the names of its attention that older files have, and with the scale that its config.json states.
"""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL
from safetensors.torch import save_file

import smalti
from smalti.hub import FetchError, matching, model_info, registry
from smalti.hub.assembly import official_shapes
from smalti.hub.registry import HubFile
from smalti.tokenizers.kl.config import KLTokenizerConfig
from smalti.tokenizers.kl.model import KLTokenizer
from tests.tiny.kl import KL
from tests.tokenizers.test_kl import IMAGES, ours, stock_kl

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture
def stock() -> AutoencoderKL:
    """What its authors publish."""
    return stock_kl()


def check(loaded: object, stock: AutoencoderKL) -> KLTokenizer:
    """The same latents as the published one."""
    assert isinstance(loaded, KLTokenizer)
    assert torch.equal(loaded.encode(IMAGES).values, ours(stock).encode(IMAGES).values)
    assert loaded.fingerprint
    return loaded


def test_folders_and_files(tmp_path, stock):
    folder = tmp_path / "pipeline" / "vae"
    stock.save_pretrained(folder)
    for source in (tmp_path / "pipeline", folder, folder / WEIGHTS):
        assert check(smalti.load(source), stock).config.image_size == 16
    (folder / WEIGHTS).unlink()
    with pytest.raises(FileNotFoundError, match=f"no {WEIGHTS}"):
        smalti.load(folder)
    (folder / "config.json").write_text(json.dumps({"_class_name": "UNet2DModel"}))
    with pytest.raises(ValueError, match="format"):
        smalti.load(folder)


def test_hub(tmp_path, hub_cache, stock):
    stock.save_pretrained(tmp_path)
    for name in ("config.json", WEIGHTS):
        hub_cache("someone/alone", tmp_path / name)
        hub_cache("someone/pipeline", tmp_path / name, f"vae/{name}")
    for repo in ("someone/alone", "someone/pipeline"):
        assert check(smalti.load(f"hub:{repo}"), stock).name == f"hub:{repo}"
    with pytest.raises(FetchError, match=r"hub:someone/else needs config\.json"):
        smalti.load("hub:someone/else")


def test_by_name_with_what_the_published_config_says(tmp_path, hub_cache, scratch_registry, stock):
    stock.save_pretrained(tmp_path)
    unknown = KLTokenizerConfig(autoencoder=replace(KL, scaling_factor=None), image_size=16)
    source = HubFile(repo="someone/vae", file=f"vae/{WEIGHTS}", beside=("config.json",))
    registry.register(replace(model_info("kl/sd15"), name="test/vae", config=unknown, source=source))
    hub_cache("someone/vae", tmp_path / WEIGHTS, f"vae/{WEIGHTS}")
    with pytest.raises(ValueError, match=r"scaling factor.*config\.json"):
        smalti.load("test/vae").encode(IMAGES)  # type: ignore[union-attr]
    hub_cache("someone/vae", tmp_path / "config.json", "vae/config.json")
    assert check(smalti.load("test/vae"), stock).config.autoencoder == KL


def test_older_names_of_the_attention(tmp_path, stock):
    stock.save_pretrained(tmp_path, safe_serialization=False)
    state = stock.state_dict()
    for new, old in {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}.items():
        state = {key.replace(f".{new}.", f".{old}."): value for key, value in state.items()}
    assert sum(".proj_attn." in key for key in state) == 4
    torch.save(state, tmp_path / "diffusion_pytorch_model.bin")
    check(smalti.load(tmp_path), stock)


def test_files_without_a_config_need_to_be_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    family = [entry for entry in registry.entries() if entry.family == "kl"]
    monkeypatch.setattr(matching, "entries", lambda: family)
    shapes = official_shapes("tokenizer", "kl", model_info("kl/sd15").config)
    file = tmp_path / WEIGHTS
    save_file({key: torch.zeros(shape, dtype=torch.float16) for key, shape in shapes.items()}, file)
    with pytest.raises(ValueError, match=r"like='kl/sd15' or like='kl/sd-ft-mse' or like='kl/sdxl'"):
        smalti.load(file)
    assert smalti.load(file, like="kl/sdxl").config == model_info("kl/sdxl").config  # type: ignore[union-attr]
