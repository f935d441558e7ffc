"""The recipes of mini-flextok, made tiny, run: the autoencoder, then the tokens on top of it, learn and export."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import smalti
from smalti.training.recipe import load_recipe
from smalti.training.stages import Place, train_stage
from tests.training.conftest import SHORT

STACK = "{{width: 32, depth: 2, head_width: 16, patch: {}, position_side: {}}}"
TINY = (
    "model.vae={latent_channels: 4, channels: [8, 8, 8], res_blocks: 1, norm_groups: 4, running_scale: true}",
    f"model.encoder={STACK.format(4, 4)}",
    f"model.decoder={STACK.format(2, 8)}",
    "model.registers=16",
    "data.crops=2",
)


def run(name: str, place: Place, *extra: str) -> list[dict]:
    """Trains; returns the log lines of the training."""
    overrides = (*TINY, *SHORT, "objective.perceptual=0", "training.schedule=linear", "training.hold=1", *extra)
    train_stage(load_recipe(name, "cpu", overrides), place)
    lines = map(json.loads, (place.run_folder(name) / "log.jsonl").read_text().splitlines())
    return [line for line in lines if line["kind"] == "train"]


@pytest.fixture(scope="module")
def logs(bank_file: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, list[dict]]]:
    """Both stages in a row."""
    out = tmp_path_factory.mktemp("runs")
    place = Place(out=out, data=bank_file, networks=out / "none", models={}, cpu=True)
    steps = {"mini-flextok-vae": 24, "mini-flextok": 12}
    return out, {name: run(name, replace(place), f"training.steps={n}") for name, n in steps.items()}


def test_both_stages_learn(logs: tuple[Path, dict[str, list[dict]]]) -> None:
    """The losses fall; regression comes first, then the flow."""
    vae, tokens = (logs[1][name] for name in ("mini-flextok-vae", "mini-flextok"))
    assert vae[-1]["l1"] < vae[0]["l1"]
    assert tokens[1]["regression"] < tokens[0]["regression"]
    assert tokens[0]["flow"] is None or tokens[0]["flow"] != tokens[0]["flow"], "no image flows at first"
    assert tokens[-1]["flow"] > 0


def test_the_second_stage_leaves_the_autoencoder_alone(logs: tuple[Path, dict[str, list[dict]]]) -> None:
    """It starts from the first stage's export, whose running scale has moved, and both exports load."""
    first, second = (smalti.load(logs[0] / name / "model") for name in ("mini-flextok-vae", "mini-flextok"))
    assert isinstance(first, torch.nn.Module) and isinstance(second, torch.nn.Module)
    a, b = first.state_dict(), second.state_dict()
    assert all(torch.equal(a[key], b[key]) for key in a if key.startswith("vae."))
    assert not torch.equal(a["vae.deviation"], torch.ones(4))
    assert any(not torch.equal(a[key], b[key]) for key in a if key.startswith("decoder."))
    assert second.decode(second.encode(torch.rand(1, 3, 64, 64)).prefix(3)).shape == (1, 3, 64, 64)  # type: ignore[operator]
