"""Proves that save_pretrained and from_pretrained give back the same model, that a folder alone makes a packaged entry,
and that a broken or foreign folder is refused by name.
"""

import json
import shutil

import pytest
import torch

import smalti
from smalti.hub import WeightsError, folders, from_pretrained, registry, save_pretrained
from smalti.hub.folders import read_folder
from smalti.images import Resize
from smalti.pipeline import ImageGenerator
from smalti.text import packaged
from smalti.tokenizers.base import Tokenizer
from tests.hub.conftest import SETTINGS
from tests.tiny.var import tiny_var_generator


@pytest.fixture
def saved(tmp_path, tokenizer, generator):
    """Tokenizer and generator folders side by side, as training leaves them."""
    tokenizer.resize = Resize(kernel="lanczos")
    save_pretrained(tokenizer, tmp_path / "tok", name="test/tok", license="Apache-2.0")
    loaded = from_pretrained(tmp_path / "tok")
    assert isinstance(loaded, Tokenizer)
    generator.tokenizer = loaded
    numbers = ({"metric": "FID", "value": 9.5, "protocol": "1,000 samples"},)
    save_pretrained(generator, tmp_path / "gen", published=numbers, notes="A test.", card={"data": "none", "steps": 3})
    return tmp_path / "tok", tmp_path / "gen"


def test_round_trip(saved, tokenizer, generator):
    tok, gen = from_pretrained(saved[0]), from_pretrained(saved[1])
    assert isinstance(tok, Tokenizer)
    assert isinstance(gen, ImageGenerator)
    assert tok.config == tokenizer.config  # type: ignore[attr-defined]
    assert tok.resize == Resize(kernel="lanczos")
    assert tok.name == str(saved[0])
    for ours, theirs in ((tok, tokenizer), (gen.generator, generator.generator)):
        state = theirs.state_dict()
        assert all(torch.equal(v, state[k]) for k, v in ours.state_dict().items())
    assert gen.settings == SETTINGS
    assert gen.classes == generator.classes
    assert gen.license == "Apache-2.0"
    assert gen.tokenizer.fingerprint == tok.fingerprint
    assert torch.equal(gen.generate(classes=["dog"], seed=3).images, generator.generate(classes=["dog"], seed=3).images)
    assert isinstance(smalti.load(saved[0] / "model.safetensors"), Tokenizer)


def test_a_model_that_takes_text_comes_back_with_its_encoder(tmp_path, tokenizer, generator):
    encoder = packaged()
    generator.generator = tiny_var_generator(text_features=encoder.width)
    generator.text_encoder = encoder
    save_pretrained(tokenizer, tmp_path / "tok", name="test/tok")
    generator.tokenizer.name = "test/tok"
    gen = from_pretrained(save_pretrained(generator, tmp_path / "gen"))
    assert isinstance(gen, ImageGenerator)
    images = gen.generate(text=["a red apple"], seed=1).images
    assert torch.equal(images, generator.generate(text=["a red apple"], seed=1).images)
    edit(tmp_path / "gen", text={"encoder": "os.system"})
    with pytest.raises(ValueError, match=r"text encoder 'os\.system'; known: 'packaged'"):
        from_pretrained(tmp_path / "gen")
    edit(tmp_path / "gen", text=None, classes=["cat"])
    with pytest.raises(ValueError, match="classes has 1 names, but the model knows 5 classes"):
        from_pretrained(tmp_path / "gen")


def test_the_tokenizer_is_found_beside_a_moved_generator(saved, tmp_path):
    shutil.copytree(tmp_path / "tok", tmp_path / "new" / "tok")
    shutil.copytree(tmp_path / "gen", tmp_path / "new" / "gen")
    shutil.rmtree(tmp_path / "tok")
    gen = from_pretrained(tmp_path / "new" / "gen")
    assert isinstance(gen, ImageGenerator)
    assert gen.tokenizer.name == str(tmp_path / "new" / "tok")
    shutil.rmtree(tmp_path / "new" / "tok")
    with pytest.raises(ValueError, match=r"needs the tokenizer it was trained on.*pass tokenizer="):
        from_pretrained(tmp_path / "new" / "gen")


def test_a_retrained_tokenizer_is_noticed(saved, tokenizer):
    with torch.no_grad():
        tokenizer.quantizer.codebook.add_(1)
    save_pretrained(tokenizer, saved[0])
    with pytest.raises(ValueError, match="was trained on the tokenizer"):
        from_pretrained(saved[1])


def test_half_precision_is_stored_and_loaded_as_float32(tmp_path, tokenizer):
    full = save_pretrained(tokenizer, tmp_path / "full")
    half = save_pretrained(tokenizer, tmp_path / "half", dtype=torch.float16)
    sizes = [(f / "model.safetensors").stat().st_size for f in (full, half)]
    assert sizes[1] < 0.6 * sizes[0]
    loaded = from_pretrained(half)
    assert isinstance(loaded, Tokenizer)
    for key, value in loaded.state_dict().items():
        assert torch.equal(value, tokenizer.state_dict()[key].half().float()), key
    with torch.no_grad():
        tokenizer.quantizer.codebook[0, 0] = 1e6
    with pytest.raises(ValueError, match=r"quantizer\.codebook holds values too large"):
        save_pretrained(tokenizer, tmp_path / "over", dtype=torch.float16)
    with pytest.raises(ValueError, match="stored as"):
        save_pretrained(tokenizer, tmp_path / "over", dtype=torch.int8)
    assert not (tmp_path / "over").exists()


def test_the_model_card_tells_the_facts(saved):
    card = (saved[1] / "README.md").read_text()
    for text in ("license: apache-2.0", "A test.", "| FID | 9.5 | 1,000 samples |", "- data: none", "- steps: 3"):
        assert text in card, text
    assert 'smalti.load("test/gen")' in card
    entry = read_folder(saved[1])
    assert entry.published[0].value == 9.5
    assert entry.notes == "A test."


def test_facts_that_are_no_data_leave_nothing(tmp_path, tokenizer):
    with pytest.raises(TypeError):
        save_pretrained(tokenizer, tmp_path / "bad", card={"x": object()})
    assert not (tmp_path / "bad").exists()


def test_packaged_folders_are_entries_by_themselves(saved, tmp_path, monkeypatch, scratch_registry):
    weights = tmp_path / "weights"
    for folder in saved:
        shutil.copytree(folder, weights / folder.name)
    facts = json.loads((weights / "gen" / "config.json").read_text())
    facts["tokenizer"]["name"] = "test/tok"
    (weights / "gen" / "config.json").write_text(json.dumps(facts))
    pair = {"format": "smalti/1", "name": "test/pair", "weights_of": "test/gen", "notes": "two at once"}
    pair["settings"] = {**SETTINGS.to_dict(), "then": "test/gen", "handover": 2}
    (weights / "pair").mkdir()
    (weights / "pair" / "config.json").write_text(json.dumps(pair))
    monkeypatch.setattr(folders, "PACKAGED", weights)
    found = {e.name: e for e in folders.packaged_entries.__wrapped__()}
    assert set(found) == {"test/tok", "test/gen", "test/pair"}
    for entry in found.values():
        registry.register(entry)
    gen = smalti.load("test/pair")
    assert isinstance(gen, ImageGenerator)
    assert gen.tokenizer.name == "test/tok"
    assert gen.then is not None
    assert gen.settings.handover == 2
    assert gen.classes == ("cat", "dog", "fish", "tree", "house")
    assert str(found["test/gen"].source) == "inside the package: weights/gen"


def test_a_folder_on_the_hub(saved, hub_cache):
    for name in ("config.json", "model.safetensors"):
        hub_cache("someone/tok", saved[0] / name)
    loaded = from_pretrained("someone/tok")
    assert isinstance(loaded, Tokenizer)
    assert loaded.name == "hub:someone/tok"
    assert smalti.load(loaded.name).fingerprint == loaded.fingerprint
    with pytest.raises(OSError, match=r"hub:someone/else needs config\.json"):
        from_pretrained("someone/else")


def edit(folder, **changes):
    file = folder / "config.json"
    data = json.loads(file.read_text())
    file.write_text(json.dumps({k: v for k, v in {**data, **changes}.items() if v is not ...}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "other/2"}, "its format is not 'smalti/1'"),
        ({"_target_": "os.system"}, "unknown fields _target_"),
        ({"family": "nothing"}, "there is no tokenizer family 'nothing'"),
        ({"family": "../var"}, "there is no tokenizer family"),
        ({"role": ...}, "field 'role' is missing"),
        ({"config": {"vocab": 32, "wings": 2}}, "VARTokenizerConfig has no field 'wings'"),
        ({"config": {"channels": 15}}, "must divide into"),
        ({"config": {"channels": "many"}}, "cannot be used"),
        ({"settings": {"sampling": {"top_p": 7}}}, "top_p"),
        ({"config": [1]}, "cannot be used"),
    ],
)
def test_broken_configs_are_refused(saved, changes, message):
    edit(saved[0], **changes)
    with pytest.raises(ValueError, match=message) as error:
        from_pretrained(saved[0])
    assert str(saved[0] / "config.json") in str(error.value)


def test_broken_folders_are_refused(saved, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"is no model folder.*there is nothing"):
        from_pretrained(tmp_path / "empty")
    (saved[1] / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"no file .*gen.model\.safetensors"):
        from_pretrained(saved[1])
    (saved[0] / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config\.json cannot be used"):
        from_pretrained(saved[0])


@pytest.mark.parametrize(
    ("folder", "changes"),
    [(0, {"vocab": 10**12}), (1, {"depth": 10**9}), (1, {"sides": [1, 10**6]}), (1, {"width": 2**40, "heads": 1})],
)
def test_absurd_sizes_are_refused_before_they_fill_memory(saved, folder, changes):
    config = json.loads((saved[folder] / "config.json").read_text())["config"]
    edit(saved[folder], config={**config, **changes})
    with pytest.raises(ValueError, match=r"config\.json asks for|the config asks for|do not fit"):
        from_pretrained(saved[folder])


def test_weights_of_another_config_are_refused(saved):
    config = json.loads((saved[0] / "config.json").read_text())["config"]
    edit(saved[0], config={**config, "vocab": 64})
    with pytest.raises(WeightsError, match=r"model\.safetensors do not fit.*\n2 wrong shape:\n  quantizer"):
        from_pretrained(saved[0])
