"""From a recipe to a trained and exported model: the tokenizer, the generator, and several in a row."""

import hashlib
import json
import platform
import signal
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

from smalti.data.bank import ImageBank
from smalti.data.counter import seed_of
from smalti.data.tokens_bank import Mix, TokenBank, encode_bank
from smalti.decoding.settings import Settings
from smalti.files import read_tensors, write_tensors
from smalti.hub import load
from smalti.hub.saving import save_pretrained
from smalti.nn.discriminator import PatchDiscriminator
from smalti.nn.perceptual import ClassifierDistance, Perceptual, PerceptualSum
from smalti.pipeline import ImageGenerator
from smalti.text.base import TextEncoder
from smalti.tokenizers.base import Tokenizer
from smalti.training.checkpoint import NAME as CHECKPOINT
from smalti.training.logs import make_accelerator
from smalti.training.monitor import GeneratorMonitor, TokenizerMonitor
from smalti.training.recipe import Recipe, load_recipe, read_yaml, stages_of
from smalti.training.trainer import Trainer

EXPORT = "model"


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a run reads and writes."""

    out: Path
    """Root; every recipe has a folder of its name in it."""
    data: Path
    """The bank file."""
    networks: Path
    """Folder of `smalti data prepare networks`: LPIPS of the objectives and of validation."""
    models: dict[str, Path]
    """Recipe name -> folder of its exported model, where it is not in `out`."""
    cpu: bool = False
    """Stay on the CPU even if there is a GPU."""
    resume: bool = False
    """Go on from checkpoints; stages already exported are not run again."""

    def run_folder(self, recipe: str) -> Path:
        """Checkpoints, logs, sheets and the export of a recipe."""
        return self.out / recipe

    def network(self, name: str) -> Path:
        """File of a perceptual network."""
        return self.networks / f"{name}.safetensors"

    def model_of(self, recipe: str) -> Path:
        """The exported model of a recipe. Errors: FileNotFoundError with the command that makes it."""
        path = self.models.get(recipe, self.run_folder(recipe) / EXPORT)
        if not (path / "config.json").is_file():
            raise FileNotFoundError(
                f"there is no trained {recipe} in {path}: run `smalti train {recipe}` with the same --out first, "
                f"or name its folder with --model {recipe}=FOLDER"
            )
        return path


def text_encoder() -> TextEncoder:
    """The encoder inside the package, which works offline."""
    from smalti.text import packaged

    return packaged()


def train(name: str, place: Place, *, setting: str = "cpu", overrides: Sequence[str] = ()) -> Path:
    """Runs a recipe, or all stages of one, and returns the folder of the last exported model."""
    exported = place.out
    for stage in stages_of(name):
        plain = read_yaml(stage)
        folder = place.run_folder(str(plain.get("name", stage)))  # a recipe given by its path has another name
        exported = folder / EXPORT
        if place.resume and (exported / "config.json").is_file():
            print(f"{stage} is done already: {exported}", flush=True)
            continue
        wants_text = plain.get("model", {}).get("text_features") == "packaged"
        encoder = text_encoder() if wants_text else None
        recipe = load_recipe(stage, setting, overrides, text_features=encoder.width if encoder else None)
        resuming = place.resume and (folder / CHECKPOINT).is_file()
        if place.resume and not resuming:
            print(f"{stage} has no checkpoint yet: starts", flush=True)
        train_stage(recipe, replace(place, resume=resuming), encoder)
    return exported


def train_stage(recipe: Recipe, place: Place, encoder: TextEncoder | None = None) -> Path:
    """Runs one recipe and exports it to `out/NAME/model`."""
    before = signal.signal(signal.SIGTERM, _interrupt)  # being stopped saves a checkpoint, as Ctrl-C does
    try:
        return _train_stage(recipe, place, encoder)
    finally:
        signal.signal(signal.SIGTERM, before)


def _train_stage(recipe: Recipe, place: Place, encoder: TextEncoder | None) -> Path:
    _allow_fast_math()
    accelerator = make_accelerator(place.run_folder(recipe.name), cpu=place.cpu)
    torch.manual_seed(seed_of(recipe.training.seed, "weights", recipe.name))
    run = _tokenizer if recipe.role == "tokenizer" else _generator
    exported = run(recipe, place, accelerator, encoder)
    accelerator.wait_for_everyone()  # the next stage reads what the main process has written
    return exported


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


def _allow_fast_math() -> None:
    if torch.cuda.is_available():
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.allow_tf32 = True
        torch.backends.cudnn.benchmark = True


def _tokenizer(recipe: Recipe, place: Place, accelerator: Accelerator, _: TextEncoder | None) -> Path:
    device, out = accelerator.device, place.run_folder(recipe.name)
    tokenizer: Tokenizer = recipe.parts.family.model_class(recipe.config).to(device)  # type: ignore[assignment]
    if recipe.start:
        tokenizer.load_state_dict(load(place.model_of(recipe.start), device=device).state_dict())  # type: ignore[union-attr]
    freeze(tokenizer, recipe.training.frozen)
    bank = ImageBank.load(
        place.data, device=device, seed=recipe.training.seed, size=recipe.config.image_size, crops=recipe.data.crops
    )
    alex = _lpips(place, "alex", device)
    perceptual = _perceptual(recipe, place, device, alex)
    discriminator = PatchDiscriminator() if getattr(recipe.objective, "adversarial", 0) else None
    objective = recipe.parts.objective(tokenizer, recipe.objective, perceptual=perceptual, discriminator=discriminator)

    def data(call: int, size: int, rank: int) -> Any:
        return bank.batch(call, size, mix=recipe.data.mix, exact=recipe.data.exact, rank=rank)

    limit = recipe.training.validation
    monitor = TokenizerMonitor(tokenizer=tokenizer, bank=bank, out=out, perceptual=alex, limit=limit)
    trainer = _trainer(objective, data, recipe, place, accelerator, monitor)
    trainer.run(resume=place.resume)
    with trainer.averaged():
        return _export(tokenizer, recipe, place, trainer)


def freeze(model: nn.Module, names: Sequence[str]) -> None:
    """Leaves the named parts of a model as they are. Errors: ValueError for a name that is no part of it."""
    for name in names:
        found = [p for key, p in model.named_parameters() if key.startswith(name)]
        if not found:
            parts = ", ".join(key for key, _ in model.named_children())
            raise ValueError(f"training.frozen names {name!r}, which is no part of the model: it has {parts}")
        for parameter in found:
            parameter.requires_grad_(False)


def _lpips(place: Place, backbone: str, device: torch.device) -> nn.Module | None:
    """LPIPS, where the weights of its backbone are there."""
    weights = place.network(f"lpips_{backbone}")
    return Perceptual(weights, backbone).to(device) if weights.is_file() else None


def _perceptual(recipe: Recipe, place: Place, device: torch.device, alex: nn.Module | None) -> nn.Module | None:
    """What the loss weighs as perceptual term, if it does; `alex`: LPIPS of validation, which may be the same."""
    backbone = recipe.lpips_backbone
    if backbone is None:
        return None
    for name in recipe.networks:
        if not place.network(name).is_file():
            raise FileNotFoundError(
                f"the recipe's perceptual loss needs {place.network(name)}, which is not there: make it with `smalti "
                f"data prepare networks --out {place.networks}`, name its folder with --networks, or train with "
                "--set objective.perceptual=0"
            )
    lpips = alex if backbone == "alex" else _lpips(place, backbone, device)
    assert lpips is not None
    if ClassifierDistance.NAME not in recipe.networks:
        return lpips
    classifier = ClassifierDistance(place.network(ClassifierDistance.NAME)).to(device)
    return PerceptualSum(lpips, classifier, weight=recipe.objective.classifier, share=recipe.objective.classifier_share)


def _generator(recipe: Recipe, place: Place, accelerator: Accelerator, encoder: TextEncoder | None) -> Path:
    device, out = accelerator.device, place.run_folder(recipe.name)
    tokenizer = _frozen_tokenizer(place.model_of(recipe.tokenizer), device)
    tokens = _token_bank(recipe, place, tokenizer, encoder, accelerator)
    config = replace(recipe.config, classes=len(tokens.classes))
    recipe = replace(recipe, config=config, source={**recipe.source, "model": asdict(config)})
    model = recipe.parts.family.model_class(config).to(device)
    if recipe.start:
        first = load(place.model_of(recipe.start), tokenizer=tokenizer, device=device, packed=False)
        assert isinstance(first, ImageGenerator), f"{recipe.start} is no generator"
        model.load_state_dict(first.generator.state_dict())
    drafter = None
    if recipe.teacher:
        drafter = load(place.model_of(recipe.teacher), tokenizer=tokenizer, device=device)
        assert isinstance(drafter, ImageGenerator), f"{recipe.teacher} is no generator"
    teacher = drafter.generator if drafter else None
    objective = recipe.parts.objective(model, tokenizer, recipe.objective, teacher=teacher)
    pipeline = ImageGenerator(
        generator=model,  # type: ignore[arg-type]
        tokenizer=tokenizer,
        text_encoder=encoder,
        classes=tokens.classes,
        settings=Settings.from_dict(recipe.sampling),
        name=recipe.publish,
        license=recipe.license,
    )
    monitor = GeneratorMonitor(
        objective=objective,
        pipeline=pipeline,
        tokens=tokens,
        out=out,
        drafter=drafter,
        handover=recipe.handover,
        limit=recipe.training.validation,
    )
    trainer = _trainer(objective, tokens.batch, recipe, place, accelerator, monitor)
    trainer.run(resume=place.resume)
    with trainer.averaged():
        return _export(pipeline, recipe, place, trainer)


def _frozen_tokenizer(folder: Path, device: torch.device) -> Tokenizer:
    """An exported tokenizer, under the name it will be published by."""
    tokenizer = load(folder, device=device)
    assert isinstance(tokenizer, Tokenizer), f"{folder} holds no tokenizer"
    tokenizer.name = json.loads((folder / "config.json").read_text())["name"]
    return tokenizer.requires_grad_(False).eval()


def _token_bank(
    recipe: Recipe, place: Place, tokenizer: Tokenizer, encoder: TextEncoder | None, accelerator: Accelerator
) -> TokenBank:
    """The emoji as tokens, from an earlier run's file if it is of the same tokenizer and images."""
    data, seed = recipe.data, recipe.training.seed
    bank = ImageBank.load(
        place.data, device=tokenizer.device, seed=seed, size=tokenizer.sizes.value, sources=("emoji",)
    )
    path = place.run_folder(recipe.tokenizer) / "tokens.safetensors"
    made_of = {"tokenizer": tokenizer.fingerprint, "images": _digest(place.data), "versions": str(data.versions)}
    ids = _read_ids(path, {**made_of, "seed": str(seed)})
    if ids is None:
        start = time.monotonic()
        share = {"rank": accelerator.process_index, "processes": accelerator.num_processes}
        ids = encode_bank(tokenizer, bank, versions=data.versions, seed=seed, **share)
        if accelerator.is_main_process:
            write_tensors(path, {"ids": ids.cpu()}, {**made_of, "seed": str(seed)})
            print(f"encoded {ids.shape[0]} x {ids.shape[1]} images in {time.monotonic() - start:.0f} s", flush=True)
    mix = Mix(none=data.none, by_class=data.by_class, by_text=data.by_text, exact=data.exact, misnamed=data.misnamed)
    ids = ids.to(tokenizer.device)
    return TokenBank.build(ids, bank, encoder=encoder, captions=data.captions, mix=mix, seed=seed)


def _read_ids(path: Path, made_of: dict[str, str]) -> torch.Tensor | None:
    if not path.is_file():
        return None
    tensors, header = read_tensors(path)
    return tensors["ids"] if header == made_of else None


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _trainer(
    objective: nn.Module, data: Any, recipe: Recipe, place: Place, accelerator: Accelerator, monitor: Any
) -> Trainer:
    return Trainer(
        objective,
        data,
        recipe.training,
        accelerator=accelerator,
        out=place.run_folder(recipe.name),
        recipe=json.loads(json.dumps(recipe.source)),
        monitor=monitor,
    )


def _export(model: Any, recipe: Recipe, place: Place, trainer: Trainer) -> Path:
    """The averaged weights as float16 in our folder layout, with what the run was."""
    folder = place.run_folder(recipe.name) / EXPORT
    if not trainer.accelerator.is_main_process:
        return folder
    images = recipe.training.batch * trainer.accelerator.num_processes
    card = {
        "recipe": f"smalti train {recipe.name} --setting {recipe.setting}",
        "training": f"{trainer.place.step} steps of {images} images, {trainer.place.elapsed / 60:.1f} minutes",
        "device": device_name(trainer.device),
        "skipped steps": trainer.place.skipped,
        "final validation": trainer.last_validation,
    }
    about = {"name": recipe.publish, "license": recipe.license, "notes": recipe.notes, "card": card}
    save_pretrained(model, folder, dtype=torch.float16, **about)
    print(f"exported {recipe.publish} to {folder}", flush=True)
    return folder


def device_name(device: torch.device) -> str:
    """What the run was on, for the model card."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type} ({platform.machine()}, {torch.get_num_threads()} threads)"
