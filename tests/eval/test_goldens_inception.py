"""Proves that every layer of Inception and every resize rule has the reference values, with recipe weights that go
through a file and our key check; in every `metrics/inception` folder below the golden roots.

The committed fixture is the stored folder without its large images.
"""

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from smalti.eval.inception import Inception
from smalti.eval.inception_resize import resize_clean, resize_tf1, resize_torch, resize_torch_antialias
from smalti.eval.weights import load
from tests.eval.account import Account, parts, require

RULES = {
    "tf1": resize_tf1,
    "torch_noaa": resize_torch,
    "torch_antialias": resize_torch_antialias,
    "cleanfid_PILbicubicF": resize_clean,
}
LAYERS = {"sfid_spatial_NHWC_2023": "spatial"}


def recipe(seed: int, keys: list[tuple[str, list[int]]]) -> dict[str, torch.Tensor]:
    """The recipe of the notes: one stream of normal numbers, scaled by kind of tensor."""
    stream = np.random.RandomState(seed)
    state = {}
    for key, shape in keys:
        if key.endswith("num_batches_tracked"):
            state[key] = torch.tensor(0)
            continue
        z = stream.standard_normal(int(np.prod(shape))).reshape(shape)
        if key.endswith("running_var"):
            z = 0.5 + 0.5 * np.abs(z)
        elif key.endswith("running_mean"):
            z = 0.1 * z
        elif len(shape) >= 2:
            z = z * np.sqrt(2 / np.prod(shape[1:]))
        else:
            z = 1 + 0.1 * z if key.endswith("bn.weight") else 0.05 * z
        state[key] = torch.from_numpy(z.astype(np.float32))
    return state


@pytest.fixture(params=require(parts("inception")), scope="module")
def folder(request: pytest.FixtureRequest) -> Path:
    """One golden folder."""
    assert request.param is not None, "no golden Inception was found"
    return request.param


@pytest.fixture(scope="module")
def state(folder: Path) -> dict[str, torch.Tensor]:
    """The recipe network; that it is the stored one is proven by its digest."""
    values = json.loads((folder / "values.json").read_text())
    keys = json.loads((folder / "keys_in_order.json").read_text())
    made = recipe(values["recipe_seed"], keys)
    stream = b"".join(made[k].numpy().tobytes() for k, _ in keys if not k.endswith("num_batches_tracked"))
    assert hashlib.sha256(stream).hexdigest() == values["weights_sha256"]
    return made


def test_every_layer(folder: Path, state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    """Through a file with torch-fidelity's 566 keys, to 1e-4."""
    account, io = Account(folder), load_file(folder / "io.safetensors")
    account.compare("n_keys", len(state))
    save_file(state, tmp_path / "net.safetensors")
    given = {"inception": tmp_path / "net.safetensors"}
    with pytest.raises(ValueError, match="not the published ones"):
        load("inception", given)
    network = Inception(load("inception", given, allow_unknown=True).state)
    images = {m[1]: io[m[0]] for key in io if (m := re.fullmatch(r"images_(\w+)_u8", key))}
    assert images
    for name, batch in images.items():
        stored = {key.split("/")[1]: value for key, value in io.items() if key.startswith(f"{name}/")}
        ours = network(batch, [LAYERS.get(layer, layer) for layer in stored])
        for layer, theirs in stored.items():
            torch.testing.assert_close(ours[LAYERS.get(layer, layer)], theirs, rtol=0, atol=1e-4)
            values = ours[LAYERS.get(layer, layer)].double()
            account.compare(
                f"feature_stats/{name}/{layer}", [float(values.mean()), float(values.std(correction=0))], atol=1e-3
            )
    if left := [key for key in _paths(account) if key.startswith("feature_stats/")]:
        assert all(key.split("/")[1] not in images for key in left)
        account.ignore("feature_stats/.*", "images that the committed fixture leaves out")
    account.ignore("recipe_seed|weights_sha256", "inputs of this test; the digest is checked")
    account.ignore("max_abs_diff.*", "a property of the reference")
    account.settle()


def _paths(account: Account) -> list[str]:
    return list(account._open)


def test_float64_inside(folder: Path, state: dict[str, torch.Tensor]) -> None:
    """float32 and float64 internals agree to 1e-5, and float64 does not depend on the batch at all."""
    io = load_file(folder / "io.safetensors")
    batch = io["images_small_u8"][:2]
    double = Inception(state, dtype=torch.float64)
    whole = double(batch)["2048"]
    torch.testing.assert_close(Inception(state)(batch)["2048"], whole, rtol=0, atol=2e-5)
    assert torch.equal(torch.cat([double(batch[:1])["2048"], double(batch[1:])["2048"]]), whole)


def test_resize_rules(folder: Path) -> None:
    """Every stored rule and size, to 1e-3 of 255 levels."""
    io = load_file(folder / "io.safetensors")
    source = io["resize_in_u8"].float()
    found = [m for key in io if (m := re.fullmatch(r"resize_(\w+)_to_(\d+)x(\d+)", key))]
    assert {m[1] for m in found} == set(RULES)
    for match in found:
        ours = RULES[match[1]](source, (int(match[2]), int(match[3])))
        torch.testing.assert_close(ours, io[match[0]], rtol=0, atol=1e-3)
