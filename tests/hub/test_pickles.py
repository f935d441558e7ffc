"""Proves that weight files of strangers are data: pickles that would run code are refused by name and run nothing,
those with plain data of the published files load, and every known wrapping is found.
"""

import argparse
import collections
import os
import pathlib
import pickle
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch

from smalti.files import write_tensors
from smalti.hub.keymap import WeightsError
from smalti.hub.pickles import read_weights, unwrap

STATE = {"a.weight": torch.arange(6.0).view(2, 3), "b": torch.ones(1, dtype=torch.int64)}


class Evil:
    """Runs a command when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("new_format", [True, False])
def test_a_pickle_that_would_run_code_is_refused(tmp_path, new_format):
    proof = tmp_path / "proof"
    file = tmp_path / "evil.pth"
    torch.save({"model": STATE, "x": Evil(proof)}, file, _use_new_zipfile_serialization=new_format)
    with pytest.raises(WeightsError, match=r"evil\.pth was not loaded: reading it would call (posix|nt)\.system"):
        read_weights(file)
    assert not proof.exists()
    torch.load(file, weights_only=False)
    assert proof.exists(), "the file is harmless, so refusing it proved nothing"


def test_plain_data_of_published_files_loads(tmp_path):
    args = argparse.Namespace(lr=1e-4, name="x", where=pathlib.Path("a/b"))
    data = {
        "model": collections.OrderedDict(STATE),
        "args": args,
        "loss": np.float64(0.5),
        "table": np.arange(4),
        "half": np.float32(1.5),
        "steps": 3,
    }
    torch.save(data, tmp_path / "c.pt")
    found = read_weights(tmp_path / "c.pt")
    assert found["args"].lr == 1e-4
    assert str(found["args"].where) == "a/b"
    assert found["loss"] == 0.5
    assert found["half"] == 1.5
    assert found["table"].tolist() == [0, 1, 2, 3]
    assert torch.equal(unwrap(found)["a.weight"], STATE["a.weight"])


def test_settings_of_a_trainer_load_as_plain_dictionaries(tmp_path, monkeypatch):
    """LARP's trainer, which NAR's clips come from, keeps its settings in dictionaries of the package easydict."""
    package = types.ModuleType("easydict")
    kind = type("EasyDict", (dict,), {"__module__": "easydict"})
    package.EasyDict = kind  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "easydict", package)
    settings = kind(name="ar", args=kind(width=8))
    settings.name = "ar"  # the package keeps its items as attributes too
    torch.save({"model": {**settings, "sd": STATE}, "cfg": settings}, tmp_path / "epoch-last.pth")
    monkeypatch.delitem(sys.modules, "easydict")
    found = read_weights(tmp_path / "epoch-last.pth")
    assert found["cfg"] == {"name": "ar", "args": {"width": 8}}
    assert set(unwrap(found, "model_sd")) == set(unwrap(found)) == set(STATE)


def test_a_windows_path_loads_anywhere(tmp_path):
    class Windows:
        def __reduce__(self):
            return pathlib.PureWindowsPath, ("a", "b")

    file = tmp_path / "w.pt"
    torch.save({"m": Windows()}, file, _use_new_zipfile_serialization=False)
    file.write_bytes(file.read_bytes().replace(b"PureWindowsPath", b"WindowsPath"))
    with pytest.raises((NotImplementedError, OSError)):
        torch.load(file, weights_only=False)  # a path of another system cannot be made here
    assert str(read_weights(file)["m"]) == "a\\b"


def test_allowed_classes_do_not_leak_to_other_loads(tmp_path):
    torch.save(argparse.Namespace(x=1), tmp_path / "n.pt")
    assert read_weights(tmp_path / "n.pt").x == 1
    with pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / "n.pt", weights_only=True)


@pytest.mark.parametrize("damage", ["cut", "text", "empty"])
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_damaged_files_are_named(tmp_path, damage, suffix):
    file = tmp_path / f"w.{suffix}"
    big = {"a": torch.randn(500)}
    if suffix == "pth":
        torch.save(big, file)
    else:
        write_tensors(file, big)
    whole = file.read_bytes()
    file.write_bytes({"cut": whole[: len(whole) // 2], "text": b"<!DOCTYPE html><html>", "empty": b""}[damage])
    with pytest.raises(ValueError, match=rf"w\.{suffix} is not a whole"):
        read_weights(file)


def test_absent_and_unknown_files(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone\.pth"):
        read_weights(tmp_path / "gone.pth")
    (tmp_path / "a.zip").write_bytes(b"x")
    with pytest.raises(WeightsError, match="known endings"):
        read_weights(tmp_path / "a.zip")


def test_safetensors_read(tmp_path):
    write_tensors(tmp_path / "w.safetensors", STATE)
    assert torch.equal(read_weights(tmp_path / "w.safetensors")["a.weight"], STATE["a.weight"])


@pytest.mark.parametrize("wrapping", ["model", "ema", "module", "state_dict"])
def test_wrappings_are_found_and_prefixes_stripped(wrapping):
    prefixed = {f"module._orig_mod.{k}": v for k, v in STATE.items()}
    assert set(unwrap({wrapping: prefixed, "epoch": 3})) == set(STATE)
    assert set(unwrap({wrapping: prefixed, "epoch": 3}, wrapping)) == set(STATE)
    assert set(unwrap(prefixed)) == set(STATE)
    assert set(unwrap(STATE, wrapping, name="w.safetensors")) == set(STATE), "a bare copy of a wrapped file is fine"


def test_another_set_of_weights_than_the_expected_is_named():
    with pytest.raises(WeightsError, match=r"no 'ema' weights \(the moving average.*last step.*pass wrapping='model'"):
        unwrap({"model": STATE}, "ema", name="w.pt")
    with pytest.raises(WeightsError, match=r"no 'model' weights; it holds a bare state dict.*FSDP.*pass wrapping=''"):
        unwrap(STATE, "model", name="w.pt")
    assert set(unwrap({"model": STATE}, "", name="w.pt")) == set(STATE), (
        "where a bare file is expected, any one will do"
    )


def test_prefixes_of_single_keys_stay():
    assert set(unwrap({"module.a": torch.ones(1), "b": torch.ones(1)})) == {"module.a", "b"}


def test_trainer_files_hold_both_models():
    data = {"epoch": 1, "trainer": {"var_wo_ddp": {"g": torch.ones(1)}, "vae_local": {"t": torch.ones(1)}}, "args": {}}
    assert set(unwrap(data, role="generator")) == {"g"}
    assert set(unwrap(data, role="tokenizer")) == {"t"}
    assert set(unwrap(data, "vae_local")) == {"t"}
    with pytest.raises(WeightsError, match="wrapping='var_wo_ddp' or wrapping='vae_local'"):
        unwrap(data)


def test_nothing_to_unwrap():
    with pytest.raises(WeightsError, match=r"w\.pth holds no state dict.*'epoch'"):
        unwrap({"epoch": 3}, name="w.pth")
    with pytest.raises(WeightsError, match="but a list"):
        unwrap([1, 2])
    with pytest.raises(WeightsError, match="several sets"):
        unwrap({"model": STATE, "ema": STATE})
    with pytest.raises(ValueError, match="wrapping 'emma' is unknown"):
        unwrap(STATE, "emma")
