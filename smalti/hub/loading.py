"""Loading: a name, a folder or a weight file -> a model that is ready to use."""

import contextlib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch

from smalti.hub import matching
from smalti.hub.assembly import assemble
from smalti.hub.diffusers_folders import VAE, autoencoder_of, is_autoencoder
from smalti.hub.diffusers_folders import WEIGHTS as DIFFUSERS_WEIGHTS
from smalti.hub.families import Role, family_of
from smalti.hub.fetch import FetchError, fetch, hub_file
from smalti.hub.folders import CARD, CONFIG, WEIGHTS, read_folder
from smalti.hub.pickles import candidates, read_weights, unwrap
from smalti.hub.registry import Entry, Folder, HubFile, LocalFile, entries, model_info, unknown_name
from smalti.nn.compiled import compile_blocks
from smalti.nn.linear import pack_linears
from smalti.pipeline import ImageGenerator
from smalti.text.base import TextEncoder
from smalti.text.chat import Chat, ChatText
from smalti.text.t5 import T5, T5Text
from smalti.tokenizers.base import Tokenizer

HUB = "hub:"
Quirks = Literal["authors", "fixed"]


def load(
    name_or_path: str | Path,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    role: Role | None = None,
    config: Any = None,
    like: str | None = None,
    tokenizer: Tokenizer | str | Path | None = None,
    text_encoder: TextEncoder | str | Path | None = None,
    wrapping: str | None = None,
    quirks: Quirks | None = None,
    packed: bool | None = None,
    compile: bool = False,
) -> Tokenizer | ImageGenerator:
    """A tokenizer, or a generator together with its tokenizer, text encoder and published sampler settings.

    `name_or_path` is a name of `list_models()`, a folder of `save_pretrained`, "hub:owner/name" for such a folder on
    the hub, or an official weight file; a folder may also be one of diffusers, of an autoencoder or of a pipeline that
    has one. The model of a file is found by its keys and shapes; where several fit, `like`
    (a name) or `config` says which, and `wrapping` which of several state dicts. `tokenizer` is the one a generator
    goes with, if not the published one (default for a file: the published file beside it, else by name).
    `text_encoder` is a text encoder, or where the one that the model was trained with is: a folder or a hub id.
    Weights are float32 unless `dtype` says otherwise (generators only). `quirks` chooses between what the authors' code
    does and what was meant, for the models whose notes name such a difference (default: as the published numbers were
    measured). `packed`: the generator's linear layers in the CPU's own layout, which is faster and cannot be trained
    (default: on the CPU, where torch can). `compile`: the generator's blocks through `torch.compile`
    (`smalti.nn.compiled`): the same numbers up to rounding, the first images slower, and a C++ compiler is needed.

    Errors: ValueError for an unknown name (with near matches), WeightsError (a ValueError) for a file that does not fit
    or would run code, FileNotFoundError, FetchError (an OSError) where a download fails.
    """
    entry = find(str(name_or_path), role=role, config=config, like=like, wrapping=wrapping)
    if quirks is not None:
        entry = _with_quirks(entry, quirks)
    if role not in (None, entry.role):
        raise ValueError(f"{name_or_path} is a {entry.role}, you asked for a {role}")
    if entry.role == "tokenizer":
        if tokenizer is not None:
            raise ValueError(f"{entry.name} is a tokenizer itself: leave out tokenizer=")
        if text_encoder is not None:
            raise ValueError(f"{entry.name} is a tokenizer, it reads no text: leave out text_encoder=")
        if dtype not in (None, torch.float32):
            raise ValueError(f"tokenizers run in float32, got dtype={dtype}: wrap calls in torch.autocast for speed")
        if compile:
            raise ValueError(f"{entry.name} is a tokenizer, only generators are compiled: leave out compile=True")
        return _tokenizer(entry, device)
    return _image_generator(entry, tokenizer, text_encoder, device, dtype, packed is not False, compile)


def _with_quirks(entry: Entry, quirks: Quirks) -> Entry:
    if not hasattr(entry.config, "quirks"):
        raise ValueError(f"{entry.name} has no quirks to choose: leave out quirks=")
    return replace(entry, config=replace(entry.config, quirks=quirks))


def from_pretrained(folder_or_hub_id: str | Path, **options: Any) -> Tokenizer | ImageGenerator:
    """What `save_pretrained` wrote, from a folder or from the hub ("owner/name"); options as for `load`."""
    name = str(folder_or_hub_id)
    if not Path(name).exists() and name.count("/") == 1 and not name.startswith((".", "/", "~")):
        name = HUB + name
    return load(name, **options)


# ---- which model -----------------------------------------------------------------------------------------------------


def find(
    name: str,
    *,
    role: Role | None = None,
    config: Any = None,
    like: str | None = None,
    wrapping: str | None = None,
) -> Entry:
    """The entry that a name, folder, hub folder or official file stands for; arguments as for `load`."""
    known = {entry.name: entry for entry in entries()}
    if name in known:
        if config is not None or like is not None or wrapping is not None:
            raise ValueError(f"{name} is known by name: config=, like= and wrapping= go with a file")
        return known[name]
    if name.startswith(HUB):
        folder = _download(name.removeprefix(HUB))
        return replace(autoencoder_of(folder) or read_folder(folder), name=name)
    path = Path(name).expanduser()
    if path.is_dir():
        return replace(autoencoder_of(path) or read_folder(path), name=str(path))
    if not path.is_file():
        raise ValueError(unknown_name(name))
    if (path.parent / CONFIG).is_file() and path.name == WEIGHTS:
        return replace(read_folder(path.parent), name=str(path.parent))
    if config is None and like is None and (found := autoencoder_of(path.parent, path)) is not None:
        return replace(found, name=str(path))
    return _official(path, role=role, config=config, like=like, wrapping=wrapping)


def _download(repo: str) -> Path:
    """The folder in the cache, of ours or of diffusers (an autoencoder, or the one of a pipeline)."""

    def get(file: str) -> Path:
        return hub_file(HubFile(repo=repo, file=file), name=HUB + repo)

    where = ""
    try:
        config = get(CONFIG)
    except FetchError as error:
        where = f"{VAE}/"
        try:
            config = get(where + CONFIG)
        except FetchError:
            raise error  # noqa: B904 (the first one says what was asked for)
    if where or is_autoencoder(config):
        return get(where + DIFFUSERS_WEIGHTS).parent
    path = get(WEIGHTS)
    with contextlib.suppress(OSError):  # a model without its card still works
        get(CARD)
    return path.parent


def _official(path: Path, *, role: Role | None, config: Any, like: str | None, wrapping: str | None) -> Entry:
    """The entry of an official file on disk: as told, or by its keys and shapes."""
    here = LocalFile(path=path)
    if config is not None:
        found = family_of(config)
        base = model_info(like) if like else Entry(name=str(path), role=found.role, family=found.name, config=config)
        return replace(base, name=str(path), role=found.role, config=config, source=here, wrapping=wrapping or "")
    if like is not None:
        entry = model_info(like)
    else:
        data = read_weights(path)
        several = candidates(data, role) if wrapping is None else {}
        # Moving average and last step have the same keys: the entry that they fit says which it means.
        chosen = next(iter(several)) if len(several) > 1 and "ema" in several else wrapping
        entry = matching.best(unwrap(data, chosen, role=role, name=str(path)), path, role)
    wrapping = entry.wrapping if wrapping is None else wrapping
    return replace(entry, name=str(path), source=here, wrapping=wrapping)


# ---- putting it together ---------------------------------------------------------------------------------------------


def _tokenizer(entry: Entry, device: torch.device | str) -> Tokenizer:
    model, fingerprint = assemble(entry, fetch(entry), torch.float32)
    model.name, model.fingerprint, model.resize = entry.name, fingerprint, entry.resize
    return model.to(device)


def _image_generator(
    entry: Entry,
    tokenizer: Tokenizer | str | Path | None,
    text_encoder: TextEncoder | str | Path | None,
    device: torch.device | str,
    dtype: torch.dtype | None,
    packed: bool,
    compile: bool,
) -> ImageGenerator:
    path = fetch(entry)
    loaded = _tokenizer_for(entry, path, tokenizer, device)
    model, fingerprint = assemble(entry, path, dtype or torch.float32)
    if packed and torch.device(device).type == "cpu":
        pack_linears(model)
    model.to(device)
    if compile:
        compile_blocks(model)
    then = entry.settings.then
    second = find(then, role="generator") if then else None
    return ImageGenerator(
        generator=model,
        tokenizer=loaded,
        text_encoder=_text_encoder(entry, text_encoder, device),
        classes=entry.class_names,
        settings=entry.settings,
        then=_image_generator(second, loaded, text_encoder, device, dtype, packed, compile) if second else None,
        name=entry.name,
        fingerprint=fingerprint,
        license=entry.weights_license,
    )


def _tokenizer_for(
    entry: Entry, path: Path, tokenizer: Tokenizer | str | Path | None, device: torch.device | str
) -> Tokenizer:
    if isinstance(tokenizer, Tokenizer):
        loaded = tokenizer.to(device)
    else:
        loaded = _tokenizer(_tokenizer_entry(entry, path, tokenizer), device)
    if entry.tokenizer_fingerprint and loaded.fingerprint != entry.tokenizer_fingerprint:
        raise ValueError(
            f"{entry.name} was trained on the tokenizer {entry.tokenizer} with weights "
            f"{entry.tokenizer_fingerprint[:12]}, but {loaded.name} has {loaded.fingerprint[:12]}: pass tokenizer="
        )
    return loaded


def _tokenizer_entry(entry: Entry, path: Path, tokenizer: str | Path | None) -> Entry:
    known = {e.name: e for e in entries() if e.role == "tokenizer"}
    published = known.get(entry.tokenizer or "")
    if tokenizer is not None:
        name = str(tokenizer)
        like = published.name if published and Path(name).is_file() else None
        found = find(name, role="tokenizer", like=like)
        if found.role != "tokenizer":
            raise ValueError(f"tokenizer={name!r} is a {found.role}")
        return found
    if published is not None:
        source = published.source
        beside = path.parent / Path(source.file).name if isinstance(source, HubFile) else None
        inside = beside == path and published.prefix != ""  # of the same file
        if (
            isinstance(entry.source, LocalFile)
            and beside is not None
            and beside.is_file()
            and (beside != path or inside)
        ):
            return replace(published, name=str(beside), source=LocalFile(path=beside))
        return published
    for place in _places(entry, path):
        if place.is_dir():
            return replace(read_folder(place), name=str(place))
    needed = f" ({entry.tokenizer})" if entry.tokenizer else ""
    raise ValueError(f"{entry.name} needs the tokenizer it was trained on{needed}: pass tokenizer= (a name or a path)")


def _places(entry: Entry, path: Path) -> Iterable[Path]:
    if entry.tokenizer and isinstance(entry.source, Folder):
        yield Path(entry.tokenizer).expanduser()
        yield path / entry.tokenizer
        yield path.parent / Path(entry.tokenizer).name


def _text_encoder(
    entry: Entry, given: TextEncoder | str | Path | None, device: torch.device | str
) -> TextEncoder | None:
    """The encoder that is given, or the entry's, found where it is said to be."""
    if given is not None and not isinstance(entry.text, Chat) and not getattr(entry.config, "text_features", 0):
        raise ValueError(f"{entry.name} reads no text features: leave out text_encoder=")
    encoder = _encoder(entry, given, device)
    if encoder is not None and entry.text_fingerprint and encoder.fingerprint != entry.text_fingerprint:
        raise ValueError(
            f"{entry.name} was trained with another text encoder ({entry.text_fingerprint[:12]}) than "
            f"{'the packaged one' if given is None else 'the given one'} ({encoder.fingerprint[:12]}): use the version "
            "of this library it came with"
        )
    return encoder


def _encoder(entry: Entry, given: TextEncoder | str | Path | None, device: torch.device | str) -> TextEncoder | None:
    if given is not None and not isinstance(given, (str, Path)):
        return given
    if isinstance(entry.text, Chat):
        return ChatText(entry.text, source=given)
    if isinstance(entry.text, T5):
        return T5Text(entry.text, source=given, device=device)
    if entry.text is None:  # a file with other sizes than any published model's
        return T5Text(_family_text(entry, str(given)), device=device) if given is not None else None
    if given is not None:
        from smalti.text.words import WordEncoder

        return WordEncoder.load(Path(given).expanduser())
    from smalti.text import packaged

    return packaged()


def _family_text(entry: Entry, repo: str) -> T5:
    """How the published models of an entry's family read texts, with the T5 of `repo`."""
    relatives = (e.text for e in entries() if (e.role, e.family) == (entry.role, entry.family))
    text = next((t for t in relatives if isinstance(t, T5)), T5())
    return replace(text, repo=repo, length=getattr(entry.config, "text_tokens", text.length))
