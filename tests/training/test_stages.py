"""The shipped recipes, made tiny, run end to end: they learn, log, show sheets, export, and resume exactly."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import smalti
from smalti.files import read_tensors
from smalti.hub.families import build_empty
from smalti.training.recipe import load_recipe, read_yaml, shipped, stages_of
from smalti.training.stages import Place, _perceptual, train_stage
from tests.training.conftest import SHORT, TINY_GENERATOR, TINY_TOKENIZER, WordEncoder

RECIPES = [name for name in shipped() if stages_of(name) == [name]]
STAGES = stages_of("minis")


def tiny(name: str, *extra: str):
    tokenizer = read_yaml(name)["role"] == "tokenizer"
    model = (*TINY_TOKENIZER, "data.crops=2") if tokenizer else (*TINY_GENERATOR, "data.versions=1", "data.captions=3")
    overrides = (*model, *SHORT, *extra)
    return load_recipe(name, "cpu", overrides, text_features=WordEncoder.width)


def place_in(out: Path, bank_file: Path, **changes) -> Place:
    place = Place(out=out, data=bank_file, networks=out / "none", models={}, cpu=True)
    return replace(place, **changes)


def lines(folder: Path, kind: str) -> list[dict]:
    return [x for x in map(json.loads, (folder / "log.jsonl").read_text().splitlines()) if x["kind"] == kind]


@pytest.fixture(scope="module")
def trained(tmp_path_factory, bank_file, monkeypatch_module) -> Path:
    out = tmp_path_factory.mktemp("runs")
    for name in STAGES:
        train_stage(tiny(name, "training.steps=6", "training.evaluations=1"), place_in(out, bank_file), WordEncoder())
    return out


@pytest.fixture(scope="module")
def monkeypatch_module():
    import smalti.text

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(smalti.text, "packaged", WordEncoder, raising=False)
        yield patch


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("setting", ["cpu", "gpu"])
def test_recipe_builds(name, setting):
    recipe = load_recipe(name, setting, text_features=64)
    model = build_empty(recipe.role, recipe.family, recipe.config)
    assert 0.5e6 < sum(p.numel() for p in model.parameters()) < 10e6
    assert recipe.training.minutes is not None


@pytest.mark.parametrize("name", RECIPES)
def test_settings_share_the_model(name):
    cpu, gpu = (load_recipe(name, setting, text_features=64) for setting in ("cpu", "gpu"))
    assert cpu.config == gpu.config


@pytest.mark.parametrize(("setting", "minutes"), [("cpu", 120), ("gpu", 20)])
def test_the_packaged_models_are_trained_in_the_promised_time(setting, minutes):
    """Two hours on two cores, twenty minutes on a GPU."""
    spent = sum(load_recipe(name, setting, text_features=64).training.minutes for name in STAGES)  # type: ignore[misc]
    assert spent <= 1.05 * minutes


def test_an_objective_of_its_own_may_weigh_lpips(tmp_path, bank_file):
    """LARP's knows no classifier beside it, nor a share of the batch."""
    from smalti.tokenizers.larp.objective import LARPObjectiveConfig

    recipe = replace(tiny("mini-var", "training.steps=1"), objective=LARPObjectiveConfig(perceptual=1.0))
    place = place_in(tmp_path, bank_file, networks=tmp_path)
    with pytest.raises(FileNotFoundError, match="lpips_alex.safetensors, which is not there"):
        _perceptual(recipe, place, torch.device("cpu"), None)
    place.network("lpips_alex").touch()
    alex = torch.nn.Identity()
    assert recipe.networks == ["lpips_alex"] and _perceptual(recipe, place, torch.device("cpu"), alex) is alex


def test_a_recipe_says_only_what_its_base_does_not(tmp_path):
    """Mappings are laid over each other, lists and values replaced; a file may have a shipped base."""
    (tmp_path / "mine.yaml").write_text(
        "base: mini-var\nname: mine\nmodel: {vocab: 64, sides: [1, 8]}\nobjective: {l1: 3}"
    )
    mine, base = (load_recipe(name, "gpu") for name in (str(tmp_path / "mine.yaml"), "mini-var"))
    assert (mine.name, mine.config.vocab, mine.config.sides, mine.objective.l1) == ("mine", 64, (1, 8), 3)
    assert mine.config == replace(base.config, vocab=64, sides=(1, 8))
    assert (mine.objective, mine.training) == (replace(base.objective, l1=3), base.training)


@pytest.mark.parametrize("name", STAGES)
def test_stage_leaves_logs_sheets_and_export(trained, name):
    folder = trained / name
    assert [x["step"] for x in lines(folder, "train")] == [2, 4, 6]
    assert len(lines(folder, "validation")) == 2
    assert list((folder / "sheets").glob("*.png"))
    assert list((folder / "tensorboard").rglob("events*"))
    facts = json.loads((folder / "model" / "config.json").read_text())
    assert facts["name"] == read_yaml(name)["publish"]
    tensors, _ = read_tensors(folder / "model" / "model.safetensors")
    assert {t.dtype for t in tensors.values() if t.is_floating_point()} == {torch.float16}


@pytest.mark.parametrize("name", ["mini-var", "mini-var-gen"])
def test_training_starts_from_an_export(trained, tmp_path, bank_file, name, monkeypatch_module):
    """A step of size zero leaves the export's weights."""
    still = (
        "training.steps=1",
        "training.learning_rate=0",
        "training.muon_learning_rate=0",
        "objective.revive_every=0",
    )
    recipe = replace(tiny(name, *(still if name == "mini-var" else still[:3])), start=name)
    models = {stage: trained / stage / "model" for stage in STAGES}
    again = train_stage(recipe, place_in(tmp_path, bank_file, models=models), WordEncoder())
    before, after = (read_tensors(folder / "model.safetensors")[0] for folder in (trained / name / "model", again))
    same = [key for key in before if torch.allclose(before[key], after[key], rtol=0, atol=1e-3)]
    assert set(before) - set(same) <= {"quantizer.usage", "usage"} and set(before) == set(after)


def test_exports_generate(trained, monkeypatch_module):
    tokenizer = smalti.load(trained / read_yaml("mini-var-gen")["tokenizer"] / "model")
    generator = smalti.load(trained / "mini-var-gen" / "model", tokenizer=tokenizer)
    refiner = smalti.load(trained / "mini-var-refiner" / "model", tokenizer=tokenizer)
    assert generator.classes == ("round", "straight", "bar", "box", "disc", "ring")
    out = generator.generate(text=["red disc"], n=2, then=refiner, handover=4)
    assert out.images.shape == (2, 3, 64, 64)


@pytest.mark.parametrize("name", STAGES)
def test_loss_falls_on_one_batch(trained, tmp_path, bank_file, name, monkeypatch, monkeypatch_module):
    from smalti.data.bank import ImageBank
    from smalti.data.tokens_bank import TokenBank

    for bank in (ImageBank, TokenBank):
        original = bank.batch
        monkeypatch.setattr(bank, "batch", lambda self, step, *rest, _b=original, **named: _b(self, 0, *rest, **named))
    models = {other: trained / other / "model" for other in STAGES if other != name}
    recipe = tiny(name, "training.steps=16", "training.schedule=linear", "training.hold=1", "training.bf16=false")
    train_stage(recipe, place_in(tmp_path, bank_file, models=models), WordEncoder())
    losses = [x["loss"] for x in lines(tmp_path / name, "train")]
    assert losses[-1] < 0.97 * losses[0]


@pytest.mark.parametrize("name", STAGES)
def test_resume_is_exact(trained, tmp_path, bank_file, name, monkeypatch_module):
    models = {other: trained / other / "model" for other in STAGES if other != name}
    straight = place_in(tmp_path / "straight", bank_file, models=models)
    train_stage(tiny(name, "training.steps=10"), straight, WordEncoder())
    parts = place_in(tmp_path / "parts", bank_file, models=models)
    halt = tiny(name, "training.steps=10")
    stop_after(halt, parts, 6)
    train_stage(halt, replace(parts, resume=True), WordEncoder())
    a, _ = read_tensors(tmp_path / "straight" / name / "checkpoint.safetensors")
    b, _ = read_tensors(tmp_path / "parts" / name / "checkpoint.safetensors")
    assert a.keys() == b.keys()
    different = [key for key in a if not torch.equal(a[key], b[key])]
    assert not different
    kept = [[x["step"] for x in lines(root / name, "train")] for root in (tmp_path / "straight", tmp_path / "parts")]
    assert kept[0] == kept[1] == list(range(2, 11, 2))


def stop_after(recipe, place: Place, steps: int) -> None:
    """Interrupts a run after some steps, as Ctrl-C would."""
    from smalti.training.trainer import Trainer

    original = Trainer._step

    def step(self):
        if self.place.step == steps:
            raise KeyboardInterrupt
        original(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "_step", step)
        with pytest.raises(KeyboardInterrupt):
            train_stage(recipe, place, WordEncoder())
