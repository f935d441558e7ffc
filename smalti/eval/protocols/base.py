"""What a protocol is: every choice that changes a number, as versioned data.

Most disputes about published reconstruction numbers are an unstated crop, rounding, resize or reference set. A result
carries the name, version and digest of its protocol, and results of different ones never share a column.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cache
from importlib.resources import files
from typing import Any, Literal

import yaml

Crop = Literal["tokenizer", "none", "adm", "shorter-side", "cover"]
Rounding = Literal["none", "round", "truncate", "truncate-signed"]
PsnrForm = Literal["mean", "mean-eps", "pooled-range"]
SsimForm = Literal["gaussian", "uniform7-range2", "batch-range"]
ALLOWED: dict[str, tuple[Any, ...]] = {
    "crop": ("tokenizer", "none", "adm", "shorter-side", "cover"),
    "kernel": ("bicubic", "lanczos"),
    "uint8": ("none", "round", "truncate", "truncate-signed"),
    "reference_uint8": ("none", "round", "truncate", "truncate-signed"),
    "psnr": (None, "mean", "mean-eps", "pooled-range"),
    "ssim": (None, "gaussian", "uniform7-range2", "batch-range"),
    "lpips_input": ("signed", "unsigned"),
}


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """One way to measure. Fields are documented in the order a run meets them."""

    name: str
    version: int
    """Raised whenever a number could change."""
    title: str
    source: str
    """Where the choices were read."""
    legacy: bool = False
    """True if it is known to be wrong and kept only to compare with published numbers."""
    crop: Crop
    """tokenizer: as the family does it; none: as given; adm: halve by boxes, resize, crop; shorter-side: resize by the
    shorter side, crop; cover: resize until the target is covered, crop."""
    size: int | None
    """Side of the square the model is fed, pixels; None = as given, or the tokenizer's own."""
    kernel: Literal["bicubic", "lanczos"]
    model_range: str
    """Value range the model is given, in words; every family converts from [0, 1] itself."""
    uint8: Rounding
    """How a reconstruction becomes 8 bits."""
    reference_uint8: Rounding
    """The same for the original."""
    scored_side: int | None
    """Both images are squashed to this square before scoring, by PIL's bilinear; None = scored at the source's size."""
    psnr: PsnrForm | None
    ssim: SsimForm | None
    ms_ssim: bool
    lpips: tuple[str, ...]
    """Backbones."""
    lpips_input: Literal["signed", "unsigned"]
    """unsigned: [0, 1] given as if it were [-1, 1]."""
    fid: Mapping[str, str] | None
    """resize (a rule of `inception_resize`), uint8 rounding, dtype; None = no FID."""
    reference: str
    """Set the images are compared with, for FID."""
    reference_sha256: str | None
    """Digest of its file, where it is published and known."""
    n: int | None
    """Number of images a result must have to carry the name; None = any."""
    text: Mapping[str, Any] | None
    """Rules of text scores."""
    faults: tuple[str, ...] = ()
    """What is wrong with it, reproduced on purpose."""
    notes: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "lpips", tuple(self.lpips))
        object.__setattr__(self, "faults", tuple(self.faults))
        for name, allowed in ALLOWED.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"protocol {self.name}: {name} is {getattr(self, name)!r}; allowed: {allowed}")

    @property
    def label(self) -> str:
        """Name and version, as a table shows it."""
        return f"{self.name}/{self.version}" + (" (legacy)" if self.legacy else "")

    @property
    def digest(self) -> str:
        """sha256 over everything but title, source and notes."""
        data = {k: v for k, v in asdict(self).items() if k not in ("title", "source", "notes")}
        return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON, with the digest."""
        return asdict(self) | {"digest": self.digest}


@cache
def protocols() -> dict[str, Protocol]:
    """All protocols of this library, by name."""
    found = sorted(files("smalti.eval.protocols").iterdir(), key=lambda f: f.name)
    loaded = [_parse(f.read_text(encoding="utf-8"), f.name) for f in found if f.name.endswith(".yaml")]
    return {p.name: p for p in loaded}


def protocol(name: str) -> Protocol:
    """One protocol. Errors: ValueError that names them all for an unknown one."""
    if name not in protocols():
        raise ValueError(f"unknown protocol {name!r}; known are {', '.join(protocols())}")
    return protocols()[name]


def _parse(text: str, file: str) -> Protocol:
    data = yaml.safe_load(text)
    known = {f.name for f in fields(Protocol)}
    if unknown := set(data) - known:
        raise ValueError(f"{file} has unknown fields {', '.join(sorted(unknown))}")
    return Protocol(**data)
