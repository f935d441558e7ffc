"""Getting published files: through `huggingface_hub`, its cache and the user's own settings, or from the web."""

import hashlib
from contextlib import suppress
from dataclasses import replace
from pathlib import Path, PurePosixPath

from smalti.hub.registry import Companion, Entry, Folder, HubFile, LocalFile, WebFile
from smalti.hub.shards import is_index, shard_names


class FetchError(OSError):
    """A published file could not be had."""


def fetch(entry: Entry) -> Path:
    """The weight file (or our own folder) of an entry on this machine, downloaded if need be.

    Errors: FetchError if it cannot be downloaded, ValueError if its hash is wrong.
    """
    match entry.source:
        case Folder(path=path) | LocalFile(path=path):
            return path
        case HubFile() as source:
            path = _checked(entry, hub_file(source, name=entry.name))
            for name in source.beside:
                with suppress(FetchError):  # without it the entry's own config counts
                    hub_file(_beside(source, name), name=entry.name)
            for name in shard_names(path, entry.prefix) if is_index(path) else ():
                hub_file(_beside(source, name), name=entry.name)
            return path
        case None:
            raise FetchError(f"{entry.name} has no published weights: build it from its config and train it")


def _beside(source: HubFile, name: str) -> HubFile:
    """Another file of the same folder."""
    return replace(source, file=str(PurePosixPath(source.file).with_name(name)))


def fetch_companion(entry: Entry, companion: Companion, path: Path) -> Path:
    """A further file of the same model: from the hub or the web, or beside the local file `path` under its own name.

    Errors: FetchError that names the file and where it is published.
    """
    if isinstance(entry.source, HubFile):
        source = companion.source
        return hub_file(source, name=entry.name) if isinstance(source, HubFile) else web_file(source, name=entry.name)
    beside = path.parent / Path(companion.source.file).name
    if not beside.is_file():
        raise FetchError(
            f"{path} holds only a part of the model: its {companion.prefix}* weights are in {beside.name} "
            f"({companion.source}); put that file beside it"
        )
    return beside


def hub_file(source: HubFile, *, name: str) -> Path:
    """A file of the hub; from the cache if it is there."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    try:
        return Path(hf_hub_download(source.repo, source.file))
    except LocalEntryNotFoundError as error:
        reason = "it is not in the cache, and there is no network or the hub cannot be reached"
        raise FetchError(_message(source, name, reason)) from error
    except GatedRepoError as error:
        reason = f"accept its terms on huggingface.co/{source.repo} and log in with `hf auth login`"
        raise FetchError(_message(source, name, reason)) from error
    except (EntryNotFoundError, RepositoryNotFoundError) as error:
        raise FetchError(_message(source, name, "the hub has no such file or repository (or it is private)")) from error
    except Exception as error:  # network libraries differ between versions of the client
        raise FetchError(_message(source, name, str(error).strip().split("\n")[0])) from error


def web_file(source: WebFile, *, name: str) -> Path:
    """A file of a web server; kept where `torch.hub` keeps such files, and taken from there if it is there.

    Errors: FetchError if it cannot be downloaded.
    """
    import torch

    path = Path(torch.hub.get_dir()) / "checkpoints" / source.file
    if path.is_file():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        torch.hub.download_url_to_file(source.url, str(path))  # whole or not at all: renamed when complete
    except OSError as error:
        raise FetchError(
            f"{name} needs {source.url}, which could not be downloaded: {error}. Put a copy of the file at {path}"
        ) from error
    return path


def _message(source: HubFile, name: str, reason: str) -> str:
    file = Path(source.file).name
    return (
        f"{name} needs {source.file} from huggingface.co/{source.repo}, which could not be downloaded: {reason}. "
        f"With a copy of the file: smalti.load('/path/to/{file}', like={name!r}). "
        "The models named mini/* need no network"
    )


def _checked(entry: Entry, path: Path) -> Path:
    if entry.sha256 is not None:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != entry.sha256:
            raise ValueError(
                f"{path} has sha256 {found}, but {entry.name} is {entry.sha256}: delete it and download again"
            )
    return path
