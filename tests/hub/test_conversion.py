"""Proves that models of several files load from the hub and from a folder, that conversion to our layout and back gives
equal tensors, and that verification passes a sound file and names what is wrong with another.
"""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import smalti
from smalti.files import read_tensors, write_tensors
from smalti.hub import FetchError, convert, registry, save_official, verify
from smalti.hub.pickles import read_weights
from smalti.hub.registry import Companion, Entry, HubFile
from smalti.tokenizers.base import Tokenizer
from tests.hub.conftest import REPO

PREFIX = "decoder."


@pytest.fixture
def two_files(tmp_path: Path, tokenizer: Tokenizer, tiny_entries: tuple[Entry, Entry]) -> tuple[Path, Path]:
    """The tiny tokenizer published in two files, registered as test/two."""
    state, _ = read_tensors(save_official(tokenizer, tmp_path / "whole.safetensors"))
    main, backbone = tmp_path / "two" / "main.safetensors", tmp_path / "two" / "decoder.safetensors"
    write_tensors(main, {k: v for k, v in state.items() if not k.startswith(PREFIX)})
    write_tensors(backbone, {k.removeprefix(PREFIX): v for k, v in state.items() if k.startswith(PREFIX)})
    companion = Companion(source=HubFile(repo="someone/else", file=backbone.name), prefix=PREFIX)
    source = HubFile(repo=REPO, file=main.name)
    registry.register(replace(tiny_entries[0], name="test/two", source=source, companions=(companion,)))
    return main, backbone


def test_companions_come_from_the_hub_and_from_beside_the_file(two_files, hub_cache, tokenizer):
    hub_cache(REPO, two_files[0])
    hub_cache("someone/else", two_files[1])
    images = torch.rand(2, 3, 16, 16)
    expected = tokenizer.decode(tokenizer.encode(images))
    for name in ("test/two", str(two_files[0])):
        loaded = smalti.load(name)
        assert isinstance(loaded, Tokenizer)
        assert torch.equal(loaded.decode(loaded.encode(images)), expected)
    two_files[1].unlink()
    with pytest.raises(FetchError, match=r"its decoder\.\* weights are in decoder\.safetensors.*put that file beside"):
        smalti.load(two_files[0])


def test_a_file_that_holds_everything_needs_no_companion(two_files, tokenizer, tmp_path):
    loaded = smalti.load(tmp_path / "whole.safetensors", like="test/two")
    assert isinstance(loaded, Tokenizer)
    assert all(torch.equal(v, tokenizer.state_dict()[k]) for k, v in loaded.state_dict().items())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_official_to_ours_and_back_gives_equal_tensors(tiny_entries, tokenizer, generator, tmp_path, dtype):
    save_official(tokenizer, tmp_path / "vae.pth")
    save_official(generator.generator.to(dtype), tmp_path / "gen.pth")
    for file in ("vae.pth", "gen.pth"):
        folder = convert(tmp_path / file, tmp_path / "folders" / file.removesuffix(".pth"))
        back = convert(folder, tmp_path / "back" / file) if file == "vae.pth" else folder / "model.safetensors"
        if file == "vae.pth":
            before, after = read_weights(tmp_path / file), read_weights(back)
            assert before.keys() == after.keys()
            assert all(torch.equal(before[k], after[k]) and before[k].dtype == after[k].dtype for k in before)
        else:
            after = read_tensors(back)[0]
            assert {v.dtype for v in after.values() if v.is_floating_point()} == {dtype}
    with pytest.raises(FileExistsError, match="is there already"):
        convert(tmp_path / "vae.pth", tmp_path / "folders" / "vae")


def results(name: str | Path, **options: str) -> dict[str, str]:
    """Name of every check -> its result."""
    return {check.name: check.result for check in verify(name, **options)[1]}


def test_packaged_models_verify():
    for name in ("mini/var", "mini/var-gen"):
        found = results(name)
        assert set(found.values()) <= {"ok", "not checked"}
        assert found["keys and shapes"] == found["values"] == "ok"
    assert results("mini/var")["range probe"] == "ok"
    assert results("mini/var-gen")["first step"] == "ok"


def test_verification_names_what_is_wrong(tiny_entries, tokenizer, tmp_path):
    state, _ = read_tensors(save_official(tokenizer, tmp_path / "sound.safetensors"))
    assert results(tmp_path / "sound.safetensors", like="test/tok")["keys and shapes"] == "ok"
    registry.register(replace(tiny_entries[0], name="test/hash", sha256="0" * 64))
    assert results(tmp_path / "sound.safetensors", like="test/hash")["sha256"] == "failed"
    broken = {**state, "quant_conv.bias": torch.full_like(state["quant_conv.bias"], torch.nan)}
    write_tensors(tmp_path / "nan.safetensors", broken)
    checks = verify(tmp_path / "nan.safetensors", like="test/tok")[1]
    assert (checks[-1].name, checks[-1].result) == ("values", "failed")
    assert "quant_conv" in checks[-1].detail or "before_quantizer" in checks[-1].detail
    missing = {k: v for k, v in state.items() if k != "quant_conv.bias"}
    write_tensors(tmp_path / "missing.safetensors", missing)
    checks = verify(tmp_path / "missing.safetensors", like="test/tok")[1]
    assert (checks[-1].name, checks[-1].result) == ("keys and shapes", "failed")
    assert "quant_conv.bias" in checks[-1].detail
