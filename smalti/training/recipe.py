"""Recipes: YAML files that say what is trained on what, with several settings of the same model.

A setting (`cpu`, `gpu`) may change how long and how is trained, and never the model. For what a recipe does not say
itself, its `base` holds, if it names one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import yaml

from smalti.hub.families import Family, config_from_dict, family
from smalti.nn.perceptual import ClassifierDistance

SETTABLE = {"model", "objective", "data", "training", "sampling"}
PER_SETTING = {"objective", "data", "training"}
CONFIGS = Path(__file__).parents[1] / "configs"


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """Optimization of one model."""

    minutes: float | None = None
    """Budget in minutes of wall clock, counted over resumes; the learning rate decays over it. None = none."""
    steps: int | None = None
    """Budget in optimizer steps; with both budgets the first that is used up ends the run."""
    batch: int = 64
    """Images per optimizer step and process."""
    micro_batches: int = 1
    """Parts the batch is computed in, one after the other."""
    learning_rate: float = 1e-3
    """Peak."""
    frozen: tuple[str, ...] = ()
    """Parameters whose name starts with one of these stay as they are."""
    muon: tuple[str, ...] = ()
    """2-D weights whose name contains one of these are trained by Muon instead of AdamW."""
    muon_learning_rate: float = 3e-3
    """Peak for Muon, on AdamW's scale."""
    betas: tuple[float, float] = (0.9, 0.98)
    """Of AdamW."""
    weight_decay: float = 0.0
    """Of AdamW, on weights with two or more dimensions."""
    no_decay: tuple[str, ...] = ("codebook", "positions", "start", "level_embedding", "modulation_table", "log_scale")
    """Parameters whose name contains one of these are not decayed either."""
    clip: float = 1.0
    """Largest gradient norm."""
    warmup: int = 100
    """Steps of linear warm-up."""
    schedule: Literal["cosine", "linear"] = "cosine"
    """Shape of the decay over the budget; linear stays at the peak until `hold`."""
    hold: float = 0.5
    """Share of the budget before a linear decay begins."""
    final: float = 0.02
    """Learning rate at the end, share of the peak."""
    ema: float = 0.999
    """Decay of the averaged weights, approached as (1 + step) / (10 + step); they are evaluated and exported."""
    bf16: bool = False
    """Compute in bfloat16 where autocast does; weights stay float32. Not done on a CPU that only emulates it."""
    channels_last: bool = False
    """Keep convolution weights in channels-last order."""
    compile: tuple[str, ...] = ()
    """Submodules of the model that torch.compile compiles, e.g. encoder, decoder; a failure only warns."""
    discriminator_learning_rate: float = 2e-4
    """Of the adversarial term's discriminator."""
    evaluations: int = 6
    """Validations, sample sheets and checkpoints during the run, evenly over the budget; one more at the end."""
    checkpoint_minutes: float = 5.0
    """Further checkpoints at least this often."""
    validation: int = 256
    """Held-out images per source (tokenizer) or split (generator) in each validation."""
    log_every: int = 20
    """Steps between log lines."""
    seed: int = 0
    """Of weights, data and dropout."""

    def __post_init__(self) -> None:
        if self.minutes is None and self.steps is None:
            raise ValueError("training needs a budget: set training.minutes or training.steps")
        for name in ("minutes", "steps"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"training.{name} must be positive, got {value}")
        if self.batch % self.micro_batches:
            raise ValueError(f"batch must divide into micro_batches, got {self.batch} and {self.micro_batches}")
        if self.schedule not in ("cosine", "linear"):
            raise ValueError(f"training.schedule is cosine or linear, got {self.schedule!r}")


@dataclass(frozen=True, kw_only=True)
class TokenizerDataConfig:
    """Images a tokenizer learns."""

    mix: dict[str, float] = field(default_factory=lambda: {"emoji": 0.7, "photos": 0.15, "text": 0.15})
    """Share of each source in a batch."""
    exact: float = 0.4
    """Share of the images that are not augmented."""
    crops: int = 64
    """Random crops cut from every photograph."""


@dataclass(frozen=True, kw_only=True)
class TokenDataConfig:
    """Token sequences a generator learns."""

    versions: int = 8
    """Augmented versions encoded of every image, besides the exact one."""
    exact: float = 0.4
    """Share of the sequences that come from exact images."""
    captions: int = 6
    """Wordings of every caption."""
    none: float = 0.10
    """Share of sequences without condition."""
    by_class: float = 0.25
    """Share with a class only."""
    by_text: float = 0.40
    """Share with a caption only; the rest has both."""
    misnamed: float = 0.0
    """Share of captions that name another artist than the image's."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One training run."""

    name: str
    """Name of the recipe and of its run folder."""
    publish: str
    """Name of the exported model, e.g. mini/var."""
    role: Literal["tokenizer", "generator"]
    family: str
    """Which tokenizers/ or generators/ folder."""
    config: Any
    """The model's config."""
    objective: Any
    """The objective's config."""
    data: Any
    """TokenizerDataConfig or TokenDataConfig."""
    training: TrainingConfig
    setting: str = ""
    """Which of the recipe's settings this is."""
    start: str = ""
    """Recipe whose export the model starts from; empty = from scratch."""
    tokenizer: str = ""
    """Recipe whose export a generator is trained on."""
    teacher: str = ""
    """Recipe of the generator that drafts for, and may teach, a refiner."""
    handover: int | None = None
    """First scale a refiner makes."""
    sampling: dict[str, Any] = field(default_factory=dict)
    """Sampler settings of a generator: exported, and used for its sheets."""
    license: str = ""
    """License of the exported weights."""
    notes: str = ""
    """For the model card: what it is for, what it was trained on, whom to thank."""
    source: dict[str, Any] = field(default_factory=dict)
    """The recipe as plain data, after the setting and the overrides."""

    @property
    def parts(self) -> "FamilyParts":
        """The classes that this recipe needs."""
        return FamilyParts(family(self.role, self.family))

    @property
    def lpips_backbone(self) -> str | None:
        """Network of the objective's LPIPS term; None without such a term."""
        if not getattr(self.objective, "perceptual", 0):
            return None
        return getattr(self.objective, "perceptual_backbone", "alex")

    @property
    def networks(self) -> list[str]:
        """Names of the perceptual networks that training needs, as `smalti data prepare networks` writes them."""
        if self.lpips_backbone is None:
            return []
        classifier = [ClassifierDistance.NAME] if getattr(self.objective, "classifier", 0) else []
        return [f"lpips_{self.lpips_backbone}", *classifier]


@dataclass(frozen=True)
class FamilyParts:
    """Model and objective classes of a family; an objective is named after the config: VARConfig, VARObjective."""

    family: Family

    def _objective(self, suffix: str) -> Any:
        module = import_module(f"smalti.{self.family.role}s.{self.family.name}.objective")
        return getattr(module, self.family.config.removesuffix("Config") + suffix)

    @property
    def objective(self) -> Any:
        """The objective class."""
        return self._objective("Objective")

    @property
    def objective_config(self) -> type:
        """The config class of the objective."""
        return self._objective("ObjectiveConfig")


def shipped() -> list[str]:
    """Names of the recipes inside the package."""
    return sorted(path.stem for path in CONFIGS.glob("*.yaml"))


def read_yaml(name: str) -> dict[str, Any]:
    """The plain data of a shipped recipe or of a YAML file; what it does not say is that of its `base`, if it has one.

    Errors: FileNotFoundError with the shipped names.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else CONFIGS / f"{name}.yaml"
    if not path.is_file():
        raise FileNotFoundError(
            f"no recipe {name!r}; shipped: {', '.join(shipped())}; or give the path of a .yaml file"
        )
    data = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(data, dict):
        raise ValueError(f"{path} is no recipe: it must be a mapping")
    base = data.pop("base", None)
    return _over(read_yaml(base), data) if base else data


def _over(base: Mapping[str, Any], data: Mapping[str, Any]) -> dict[str, Any]:
    """`data` laid over `base`, mapping by mapping."""
    laid = {
        k: _over(base[k], v) if isinstance(v, dict) and isinstance(base.get(k), dict) else v for k, v in data.items()
    }
    return {**base, **laid}


def stages_of(name: str) -> list[str]:
    """The recipes that `name` runs in a row; a plain recipe is its own only stage."""
    return list(read_yaml(name).get("stages", [name]))


def load_recipe(
    name: str, setting: str = "cpu", overrides: Sequence[str] = (), *, text_features: int | None = None
) -> Recipe:
    """A recipe with one of its settings and `key=value` overrides, e.g. training.minutes=3.

    `text_features`: what `text_features: packaged` of a model stands for. Errors: ValueError naming the field.
    """
    data = read_yaml(name)
    settings = data.pop("settings", {})
    if setting not in settings:
        raise ValueError(f"recipe {name} has no setting {setting!r}; it has {', '.join(settings) or 'none'}")
    changes = settings[setting] or {}
    if wrong := sorted(set(changes) - PER_SETTING):
        raise ValueError(
            f"setting {setting} of {name} changes {', '.join(wrong)}; allowed: {', '.join(sorted(PER_SETTING))}"
        )
    for section, values in changes.items():
        data[section] = {**data.get(section, {}), **values}
    for override in overrides:
        _override(data, override)
    if text_features is not None and data.get("model", {}).get("text_features") == "packaged":
        data["model"]["text_features"] = text_features
    return _build(data, setting)


def _override(data: dict[str, Any], text: str) -> None:
    key, equals, value = text.partition("=")
    section, dot, name = key.partition(".")
    if not equals or not dot or section not in SETTABLE:
        raise ValueError(
            f"an override reads SECTION.FIELD=VALUE with section {', '.join(sorted(SETTABLE))}; got {text!r}"
        )
    data.setdefault(section, {})[name] = yaml.safe_load(value)


def _build(data: Mapping[str, Any], setting: str) -> Recipe:
    known = {f.name for f in fields(Recipe)} - {"config", "setting", "source"} | {"model"}
    if wrong := sorted(set(data) - known):
        raise ValueError(
            f"recipe {data.get('name')} has unknown fields {', '.join(wrong)}; known: {', '.join(sorted(known))}"
        )
    found = family(data["role"], data["family"])
    parts = FamilyParts(found)
    data_class = TokenizerDataConfig if data["role"] == "tokenizer" else TokenDataConfig
    plain = {k: v for k, v in data.items() if k not in ("model", "objective", "data", "training")}
    return Recipe(
        **plain,
        config=found.read_config(data["model"]),
        objective=config_from_dict(parts.objective_config, _plain_numbers(data.get("objective", {}))),
        data=config_from_dict(data_class, data.get("data", {})),
        training=config_from_dict(TrainingConfig, _plain_numbers(data.get("training", {}))),
        setting=setting,
        source=dict(data),
    )


def _plain_numbers(data: Mapping[str, Any]) -> dict[str, Any]:
    """YAML 1.1 reads 1e-3 as text: turn such values into numbers."""
    return {k: float(v) if isinstance(v, str) and _is_number(v) else v for k, v in data.items()}


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
