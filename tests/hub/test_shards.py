"""Proves that a model in several files with an index loads, by name and by path: a miniature of Ming-UniVision, whose
files also hold its tokenizer and parts that are not used. (The real files were not tried.)
"""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

import smalti
from smalti.decoding.settings import Settings
from smalti.files import write_tensors
from smalti.hub import FetchError, WeightsError, registry, save_pretrained
from smalti.hub.families import family_of
from smalti.hub.fetch import fetch
from smalti.hub.keymap import to_official
from smalti.hub.pickles import read_weights
from smalti.hub.registry import Entry, HubFile
from smalti.pipeline import ImageGenerator
from smalti.text.chat import Chat
from smalti.tokenizers.base import Tokenizer
from tests.tiny.chat import save_tiny_chat
from tests.tiny.ming import tiny_ming
from tests.tiny.mingtok import tiny_mingtok

REPO = "someone/tiny-ming"
INDEX = "model.safetensors.index.json"
SHARDS = [f"model-0000{i}-of-00003.safetensors" for i in (1, 2, 3)]


def official(model: torch.nn.Module) -> dict[str, Tensor]:
    """The state dict under the authors' names."""
    found = family_of(model)
    return to_official(model.state_dict(), found.key_map(model.config), found.constants(model.config))  # type: ignore[arg-type]


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """The index; two files of the generator in bfloat16, one of the tokenizer; a config.json that states some sizes."""
    folder, generator = tmp_path / "published", tiny_ming()
    state = official(generator)
    state |= {
        "model.lm_head.weight": torch.ones(21, 16),
        "model.model.layers.0.mlp.audio_gate.weight": torch.ones(4, 16),
    }
    half = len(state) // 2
    parts = [dict(list(state.items())[:half]), dict(list(state.items())[half:])]
    parts.append({f"vision.{key}": value for key, value in official(tiny_mingtok()).items()})
    for name, part in zip(SHARDS, parts, strict=True):
        half = {k: v if k.startswith("vision.") else v.to(torch.bfloat16) for k, v in part.items()}
        write_tensors(folder / name, half)
    weight_map = {key: name for name, part in zip(SHARDS, parts, strict=True) for key in part}
    (folder / INDEX).write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}))
    config = {"llm_config": {"num_hidden_layers": 2}, "vishead_diffloss_config": {"num_sampling_steps": "4"}}
    (folder / "config.json").write_text(json.dumps(config))
    return folder / INDEX


@pytest.fixture
def entries(scratch_registry: None) -> tuple[Entry, Entry]:
    """The miniature as it would be published; the depth is wrong here and right in the config.json."""
    source = HubFile(repo=REPO, file=INDEX, beside=("config.json",))
    tokenizer = Entry(
        name="test/ming-tok",
        role="tokenizer",
        family="mingtok",
        config=tiny_mingtok().config,
        source=source,
        prefix="vision.",
    )
    generator = Entry(
        name="test/ming",
        role="generator",
        family="ming",
        config=replace(tiny_ming().config, depth=1, flow_steps=7),
        tokenizer="test/ming-tok",
        source=source,
        text=Chat(),
    )
    return registry.register(tokenizer), registry.register(generator)


def same(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    """Equal up to the rounding of the files."""
    x, y = a.state_dict(), b.state_dict()
    return x.keys() == y.keys() and all(torch.equal(x[k].to(torch.bfloat16), y[k].to(torch.bfloat16)) for k in x)


def test_by_name_through_the_cache(
    files: Path, hub_cache: Callable[..., None], entries: tuple[Entry, Entry], tmp_path: Path
) -> None:
    """Generator, its tokenizer from the same files, texts, and the sizes of config.json."""
    for file in files.parent.iterdir():
        hub_cache(REPO, file)
    gen = smalti.load("test/ming", text_encoder=save_tiny_chat(tmp_path / "chat"), packed=False)
    assert isinstance(gen, ImageGenerator)
    assert same(gen.generator, tiny_ming()) and same(gen.tokenizer, tiny_mingtok())
    assert gen.generator.config == tiny_ming().config  # type: ignore[attr-defined]
    assert gen.generate(text=["a red apple"], guidance=2.0).images.shape == (1, 3, 16, 16)
    half = smalti.load("test/ming", dtype=torch.bfloat16, packed=False)
    assert {p.dtype for p in half.generator.parameters()} == {torch.bfloat16}  # type: ignore[union-attr]


def test_a_model_of_which_only_a_part_is_wanted_needs_only_its_files(
    files: Path, hub_cache: Callable[..., None], entries: tuple[Entry, Entry]
) -> None:
    """The tokenizer's; the error for the generator names the file that could not be had."""
    for name in (INDEX, SHARDS[2]):
        hub_cache(REPO, files.parent / name)
    tokenizer = smalti.load("test/ming-tok")
    assert isinstance(tokenizer, Tokenizer) and same(tokenizer, tiny_mingtok())
    with pytest.raises(FetchError, match=f"needs {SHARDS[0]} from huggingface.co/{REPO}"):
        fetch(entries[1])


def test_by_path(files: Path, entries: tuple[Entry, Entry]) -> None:
    """The index stands for the files beside it, the tokenizer is found in them, too."""
    gen = smalti.load(files, like="test/ming", packed=False)
    assert isinstance(gen, ImageGenerator) and same(gen.generator, tiny_ming()) and same(gen.tokenizer, tiny_mingtok())
    (files.parent / "config.json").unlink()
    registry._ENTRIES["test/ming"] = replace(entries[1], config=tiny_ming().config)
    found = smalti.load(files, role="generator", packed=False)
    assert isinstance(found, ImageGenerator) and same(found.generator, tiny_ming())
    tokenizer = smalti.load(files, role="tokenizer")
    assert isinstance(tokenizer, Tokenizer) and same(tokenizer, tiny_mingtok())


def test_a_saved_folder_names_the_chat(files: Path, entries: tuple[Entry, Entry], tmp_path: Path) -> None:
    """And comes back with it."""
    chat = save_tiny_chat(tmp_path / "chat")
    gen = smalti.load(files, like="test/ming", text_encoder=chat, packed=False)
    assert isinstance(gen, ImageGenerator)
    gen.tokenizer.name = "tokenizer"
    save_pretrained(gen.tokenizer, tmp_path / "tokenizer", name="tokenizer")
    save_pretrained(gen, tmp_path / "gen", name="gen")
    again = smalti.load(tmp_path / "gen", text_encoder=chat, packed=False)
    assert isinstance(again, ImageGenerator) and again.settings == gen.settings == Settings()
    ours, theirs = (g.generate(text=["a blue dog"], seed=4).images for g in (again, gen))
    assert torch.equal(ours, theirs)


def test_a_damaged_index_is_refused(files: Path) -> None:
    """Files elsewhere, files that are missing, keys that are not there."""
    index = json.loads(files.read_text())
    assert len(read_weights(files)) == len(index["weight_map"])
    key = next(iter(index["weight_map"]))

    def changed(value: object) -> Path:
        files.write_text(json.dumps({"weight_map": {**index["weight_map"], key: value}}))
        return files

    for wrong in ("../secret.safetensors", "/etc/passwd", "pickle.bin", 5):
        with pytest.raises(WeightsError, match="is no index of weight files"):
            read_weights(changed(wrong))
    with pytest.raises(FileNotFoundError, match=r"not beside it: other.safetensors"):
        read_weights(changed("other.safetensors"))
    with pytest.raises(WeightsError, match=f"says that {SHARDS[1]} holds '{key}'"):
        read_weights(changed(SHARDS[1]))
    files.write_text("[]")
    with pytest.raises(WeightsError, match="is no index"):
        read_weights(files)
