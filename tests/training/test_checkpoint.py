"""Checkpoints are whole or absent, resume only what they are of, and say what differs."""

import os
import subprocess
import sys
import tarfile
import time

import pytest
import torch
from torch import nn

from smalti.training import checkpoint
from smalti.training.checkpoint import NAME, Place
from smalti.training.ema import EMA
from smalti.training.optim import adamw
from smalti.training.pack import pack
from smalti.training.recipe import TrainingConfig, load_recipe

WRITER = """
import sys, torch
from pathlib import Path
from smalti.files import write_tensors
path = Path(sys.argv[1])
write_tensors(path, {"x": torch.ones(10)}, {"n": "0"})
print("first", flush=True)
for n in range(1, 1000):
    write_tensors(path, {"x": torch.full((4_000_000,), float(n))}, {"n": str(n)})
"""


def parts():
    model = nn.Linear(3, 2)
    return model, EMA(model, 0.9), {"optimizer": adamw(model, TrainingConfig(steps=1))}


def train_once(model, ema, optimizers):
    model(torch.randn(4, 3)).sum().backward()
    for optimizer in optimizers.values():
        optimizer.step()
    ema.update(0)


def saved(path, recipe):
    model, ema, optimizers = parts()
    train_once(model, ema, optimizers)
    place = Place(step=7, elapsed=3.5, skipped=1, evaluated=2)
    checkpoint.save(path, module=model, ema=ema, optimizers=optimizers, place=place, recipe=recipe)
    return model, ema, optimizers, place


def test_everything_comes_back(tmp_path):
    path = tmp_path / NAME
    model, ema, optimizers, place = saved(path, {"model": {"width": 2}})
    other, averages, fresh = parts()
    back = checkpoint.restore(path, module=other, ema=averages, optimizers=fresh, recipe={"model": {"width": 2}})
    assert back == place
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))
    assert all(torch.equal(ema.averages[k], averages.averages[k]) for k in ema.averages)
    moments = [o["optimizer"].state_dict()["state"] for o in (optimizers, fresh)]
    assert moments[0].keys() == moments[1].keys()
    assert all(torch.equal(moments[0][i][k], moments[1][i][k]) for i in moments[0] for k in moments[0][i])


def test_another_recipe_is_refused_by_name(tmp_path):
    saved(tmp_path / NAME, {"model": {"width": 2}, "training": {"minutes": 1}})
    model, ema, optimizers = parts()
    rest = {"module": model, "ema": ema, "optimizers": optimizers}
    with pytest.raises(ValueError, match="another model"):
        checkpoint.restore(tmp_path / NAME, recipe={"model": {"width": 3}}, **rest)
    checkpoint.restore(tmp_path / NAME, recipe={"model": {"width": 2}, "training": {"minutes": 9}}, **rest)


def test_a_cut_file_is_refused(tmp_path):
    saved(tmp_path / NAME, {})
    (tmp_path / NAME).write_bytes((tmp_path / NAME).read_bytes()[:-5])
    model, ema, optimizers = parts()
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        checkpoint.restore(tmp_path / NAME, module=model, ema=ema, optimizers=optimizers, recipe={})


def test_a_killed_writer_leaves_the_checkpoint_before(tmp_path):
    from smalti.files import read_tensors

    path = tmp_path / NAME
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE)
    assert writer.stdout is not None
    assert writer.stdout.readline() == b"first\n"
    time.sleep(0.25)
    writer.kill()
    writer.wait()
    tensors, header = read_tensors(path)
    expected = 1.0 if header["n"] == "0" else float(header["n"])
    assert float(tensors["x"][0]) == float(tensors["x"][-1]) == expected


def test_overrides_and_errors():
    recipe = load_recipe("mini-var", "cpu", ["training.minutes=3", "training.learning_rate=1e-4"])
    assert (recipe.training.minutes, recipe.training.learning_rate) == (3, 1e-4)
    for override, message in (
        ("training.minuets=3", "minuets"),
        ("minutes=3", r"SECTION\.FIELD=VALUE"),
        ("training.minutes=-1", "must be positive"),
        ("model.sides=[8, 4]", "must not shrink"),
    ):
        with pytest.raises(ValueError, match=message):
            load_recipe("mini-var", "cpu", [override])
    with pytest.raises(ValueError, match="no setting 'tpu'; it has cpu, gpu"):
        load_recipe("mini-var", "tpu")
    with pytest.raises(FileNotFoundError, match="mini-var"):
        load_recipe("mini-vra")


def test_a_setting_must_not_change_the_model(tmp_path):
    text = "name: x\nrole: tokenizer\nfamily: var\nsettings: {cpu: {model: {vocab: 3}}}\n"
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(ValueError, match="changes model"):
        load_recipe(str(tmp_path / "x.yaml"))


def test_pack_is_whole_and_reproducible(tmp_path):
    data, networks = tmp_path / "bank.safetensors", tmp_path / "networks"
    networks.mkdir()
    data.write_bytes(b"bank")
    perceptual = ("efficientnet_lite2", "lpips_alex", "lpips_vgg")  # what the stages of the decoder look with
    for name in perceptual:
        with pytest.raises(FileNotFoundError, match=name):
            pack(tmp_path / "a.tar.gz", data=data, networks=networks)
        (networks / f"{name}.safetensors").write_bytes(b"net")
    a, b = (pack(tmp_path / name, data=data, networks=networks) for name in ("a.tar.gz", "b.tar.gz"))
    with tarfile.open(a) as archive:
        names = archive.getnames()
        readme = archive.extractfile("smalti-training/README.txt").read().decode()
        archive.extractall(tmp_path / "there", filter="data")
    assert "python -m smalti.training minis --setting gpu" in readme
    assert not [n for n in names if "__pycache__" in n or "/samples/" in n]
    assert {n.rpartition("/")[2] for n in names if "/networks/" in n} == {f"{n}.safetensors" for n in perceptual}
    assert a.read_bytes() == b.read_bytes()
    help_text = subprocess.run(
        [sys.executable, "-m", "smalti.training", "--help"],
        cwd=tmp_path / "there" / "smalti-training",
        capture_output=True,
        env={**os.environ, "COLUMNS": "400"},  # a narrow terminal would break the names
    )
    assert b"mini-var-gen" in help_text.stdout
