"""The registry: every model that can be loaded by name, with where it comes from and what is known about it."""

import difflib
import re
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cache
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any, Literal

from smalti.decoding.settings import Settings
from smalti.hub.families import Role
from smalti.images import Resize
from smalti.text.chat import Chat
from smalti.text.t5 import T5


@dataclass(frozen=True, kw_only=True)
class HubFile:
    """A file its authors publish on the Hugging Face hub."""

    repo: str
    """Hub id, "owner/name"."""
    file: str
    """Path inside the repository; of a model in several files, that of their index (*.safetensors.index.json)."""
    beside: tuple[str, ...] = ()
    """Small files of the same folder that say more about it, such as config.json; fetched along where that works."""

    def __str__(self) -> str:
        return f"huggingface.co/{self.repo}: {self.file}"


@dataclass(frozen=True, kw_only=True)
class WebFile:
    """A file its authors publish on a web server of their own."""

    url: str
    """Where it is."""

    @property
    def file(self) -> str:
        """Its name."""
        return self.url.rsplit("/", 1)[-1]

    def __str__(self) -> str:
        return self.url


@dataclass(frozen=True, kw_only=True)
class Companion:
    """A second published file whose weights are part of the model, such as a frozen backbone."""

    source: HubFile | WebFile
    """Where it is."""
    prefix: str
    """What its keys get in front, so that one key map covers all files of a model."""
    wrapping: str = ""
    """As for an entry."""


@dataclass(frozen=True, kw_only=True)
class Folder:
    """A folder in this library's own layout: config.json, model.safetensors, README.md."""

    path: Path
    packaged: bool = False
    """True for the models inside the package."""

    def __str__(self) -> str:
        return f"inside the package: weights/{self.path.name}" if self.packaged else str(self.path)


@dataclass(frozen=True, kw_only=True)
class LocalFile:
    """A weight file the user has."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True, kw_only=True)
class Paper:
    """Where a model is described."""

    arxiv: str
    """arXiv number."""
    title: str


@dataclass(frozen=True, kw_only=True)
class Published:
    """A number its authors (or, for the packaged models, this project) report."""

    metric: str
    value: float
    protocol: str
    """How it was measured."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A model that can be loaded by name, and everything known about it without loading it."""

    name: str
    """"family/variant"."""
    role: Role
    """What `load` gives: a tokenizer, or a generator together with its tokenizer."""
    family: str
    """Folder of the implementation under `smalti/tokenizers` or `smalti/generators`."""
    config: Any
    """The family's config: sizes."""
    tokenizer: str | None = None
    """For generators: name of the tokenizer whose tokens they write."""
    tokenizer_fingerprint: str = ""
    """For generators: sha256 of that tokenizer's weights, where it is known; checked on loading."""
    source: HubFile | Folder | LocalFile | None = None
    """Where the weights are; None = nowhere yet."""
    wrapping: str = ""
    """Where the state dict is in the file: "" (bare) or a name of `smalti.hub.pickles.WRAPPINGS`."""
    prefix: str = ""
    """In a file that holds several models: what the keys of this one begin with; it is taken off, the rest is left."""
    companions: tuple[Companion, ...] = ()
    """Further files of the same model; a local one is looked for beside the first, under its published name."""
    sha256: str | None = None
    """Hash of the published file, where it is known; checked on loading."""
    weights_license: str = ""
    """License of the weights, as their authors state it."""
    code_license: str = ""
    """License of the authors' code."""
    paper: Paper | None = None
    """Where the model is described."""
    published: tuple[Published, ...] = ()
    """Reported numbers with their protocol."""
    settings: Settings = field(default_factory=Settings)
    """Sampler settings those numbers were made with; `generate` uses them where the caller says nothing."""
    image_size: int | None = None
    """Side of the image, pixels."""
    value_range: str = "[-1, 1]"
    """Pixel range inside the model; images outside are always in [0, 1]."""
    resize: Resize = field(default_factory=Resize)
    """How `preprocess` brings images to `image_size`."""
    num_classes: int | None = None
    """For generators: number of classes."""
    class_names: tuple[str, ...] = ()
    """Names of the classes, where they are more than numbers."""
    text: Literal["packaged"] | T5 | Chat | None = None
    """For generators that take text: the text encoder."""
    text_fingerprint: str = ""
    """For generators: sha256 of the text encoder they were trained with, where it is known; checked on loading."""
    verified: tuple[Literal["goldens", "layout", "listing"], ...] = ()
    """What was checked: outputs against the authors' code, every key and shape of the file, or its name only."""
    notes: str = ""
    """Anything a user should know."""


_ENTRIES: dict[str, Entry] = {}


def register(entry: Entry) -> Entry:
    """Adds a model; ValueError if the name is taken or is not "family/variant"."""
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", entry.name):
        raise ValueError(f"model name {entry.name!r} is not of the form family/variant")
    if entry.name in _ENTRIES:
        raise ValueError(f"there is already a model {entry.name}")
    _ENTRIES[entry.name] = entry
    return entry


@cache
def _fill() -> None:
    """Registers what comes with the library, on first use."""
    from smalti.hub import published
    from smalti.hub.folders import packaged_entries

    for entry in packaged_entries():
        register(entry)
    for module in sorted(m.name for m in iter_modules(published.__path__)):
        for entry in import_module(f"{published.__name__}.{module}").ENTRIES:
            register(entry)


def entries() -> tuple[Entry, ...]:
    """Every model, in order of registration."""
    _fill()
    return tuple(_ENTRIES.values())


def list_models(pattern: str = "*", role: Role | None = None) -> list[str]:
    """Names of all models that match a wildcard pattern, sorted; none is an empty list.

    >>> list_models("var/vqvae-*")
    ['var/vqvae-256', 'var/vqvae-512']
    """
    if role not in (None, "tokenizer", "generator"):
        raise ValueError(f"role {role!r} is unknown; allowed: tokenizer, generator")
    names = [e.name for e in entries() if fnmatchcase(e.name, pattern) and role in (None, e.role)]
    return sorted(names, key=lambda name: [int(p) if p.isdigit() else p for p in re.split(r"(\d+)", name)])


def model_info(name: str) -> Entry:
    """What is known about a model. Errors: ValueError with near matches and how to list all."""
    _fill()
    if name in _ENTRIES:
        return _ENTRIES[name]
    raise ValueError(unknown_name(name))


def unknown_name(name: str) -> str:
    """The message for a name that is neither a model nor a path: what may have been meant."""
    names = [e.name for e in entries()]
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    bare = re.sub(r"\.(pth|pt|bin|safetensors)$", "", name).strip("./").replace("_", "/", 1)
    if looks_like_path(name):
        near = difflib.get_close_matches(bare, names, n=1, cutoff=0.5) or ["var/d16"]
        return (
            f"there is no file or folder {name}. For a file or folder you have, correct the path: "
            f"smalti.load('/path/to/{Path(name).name}'); for a model by name, leave the path out: "
            f"smalti.load({near[0]!r}). `smalti models` lists the names"
        )
    variants = [n for n in names if n.split("/")[1] == name or n.split("/")[0] == name]
    listed = " or ".join(list(dict.fromkeys(variants + near))[:3])
    return (
        f"there is no model {name!r}{f'; did you mean {listed}?' if listed else ''} "
        "List all with smalti.list_models() or `smalti models`; a folder on the hub loads with "
        "smalti.hub.from_pretrained('owner/name')"
    )


def looks_like_path(name: str) -> bool:
    """True for what can only be meant as a file or folder."""
    return name.startswith((".", "/", "~")) or "\\" in name or name.count("/") > 1 or Path(name).suffix in _SUFFIXES


_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt", ".json")
