"""`doctor`: which metrics can run here, and for the others what is missing and the command that gets it.

Nothing is downloaded and no image is read; network files are read and checked key by key.
"""

import importlib.util
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from smalti.eval.codec_files import FORMATS, available
from smalti.eval.networks import NETWORKS
from smalti.eval.weights import DOWNLOAD, check_names, find, read, ways

INSTALL = 'pip install "smalti[eval]"'
PROGRAMS = {"tesseract": "apt-get install tesseract-ocr, or your system's package of that name"}


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What a metric cannot do without."""

    modules: tuple[str, ...] = ()
    """Importable packages."""
    network: str = ""
    """A name of NETWORKS."""
    classifier: bool = False
    """The network file must have its classifier."""
    program: str = ""
    """A program on the path."""


METRICS: dict[str, Needs] = {
    "psnr, ssim, ms-ssim, bits per pixel": Needs(),
    "token statistics": Needs(),
    "lpips-alex": Needs(modules=("lpips",), network="lpips-alex"),
    "lpips-vgg": Needs(modules=("lpips",), network="lpips-vgg"),
    "lpips-squeeze": Needs(modules=("lpips",), network="lpips-squeeze"),
    "dists": Needs(modules=("torchmetrics",), network="lpips-vgg"),
    "fid, sfid, kid, precision, recall": Needs(modules=("torch_fidelity",), network="inception"),
    "inception-score": Needs(modules=("torch_fidelity",), network="inception", classifier=True),
    "class-accuracy": Needs(network="efficientnet-lite0"),
    "protocol vtbench: ssim": Needs(modules=("torchmetrics",)),
    "cer, wer, ned, f1": Needs(modules=("jiwer", "rapidfuzz")),
    "text recognition: rapidocr": Needs(modules=("rapidocr", "onnxruntime")),
    "text recognition: tesseract": Needs(program="tesseract"),
}


@dataclass(frozen=True, kw_only=True)
class Check:
    """One line of the doctor."""

    metric: str
    ready: bool
    detail: str
    """Ready: the network file, its source and sha256; else what is missing."""
    commands: list[str] = field(default_factory=list)
    """What to run or give to get it, any one of them; empty if ready."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def doctor(given: Mapping[str, str | Path] | None = None, *, allow_unknown: bool = False) -> list[Check]:
    """One check a metric or baseline. `given`, `allow_unknown`: as `weights.load`.

    A network file that is there but wrong is a line that says why, not an error; only an unknown network name in
    `given` is (ValueError). `given` must not ask for downloads.
    """
    check_names(given)
    if asked := [name for name, value in (given or {}).items() if str(value) == DOWNLOAD]:
        raise ValueError(f"the doctor downloads nothing: leave out --weights {asked[0]}={DOWNLOAD}")
    networks = {name: _network(name, given, allow_unknown) for name in NETWORKS}
    checks = [_check(metric, needs, networks) for metric, needs in METRICS.items()]
    for kind in FORMATS:
        ready = available(kind)
        detail = "Pillow" if ready else f"this Pillow was built without {kind}"
        commands = [] if ready else ["pip install --upgrade pillow"]
        checks.append(Check(metric=f"baseline {kind}", ready=ready, detail=detail, commands=commands))
    return checks


def doctor_text(checks: list[Check]) -> str:
    """The checks as lines for a terminal."""
    width = max(len(c.metric) for c in checks)
    lines = []
    for c in checks:
        lines.append(f"{'ready  ' if c.ready else 'MISSING'} {c.metric:<{width}}  {c.detail}".rstrip())
        lines += [f"{'':<{width + 8}}  -> {command}" for command in c.commands]
    return "\n".join(lines)


@dataclass(frozen=True, kw_only=True)
class _Network:
    """What is known of a network's file."""

    detail: str
    ready: bool = False
    classifier: bool = False


def _network(name: str, given: Mapping[str, str | Path] | None, allow_unknown: bool) -> _Network:
    try:
        found = find(name, given)
        if found is None:
            return _Network(detail=f"no file of {NETWORKS[name].what}")
        weights = read(name, found, allow_unknown=allow_unknown)
    except (FileNotFoundError, ValueError) as error:
        return _Network(detail=str(error))
    named = f"{weights.path} ({weights.source}, sha256 {weights.sha256[:12]}{'' if weights.published else ', UNKNOWN'})"
    return _Network(detail=named, ready=True, classifier="fc.weight" in weights.state)


def _check(metric: str, needs: Needs, networks: Mapping[str, _Network]) -> Check:
    missing = [m for m in needs.modules if importlib.util.find_spec(m) is None]
    if missing:
        return Check(metric=metric, ready=False, detail=f"not installed: {', '.join(missing)}", commands=[INSTALL])
    if needs.program and shutil.which(needs.program) is None:
        detail = f"no program {needs.program} on the path"
        return Check(metric=metric, ready=False, detail=detail, commands=[PROGRAMS[needs.program]])
    if not needs.network:
        return Check(metric=metric, ready=True, detail="")
    network = networks[needs.network]
    if not network.ready:
        return Check(
            metric=metric, ready=False, detail=network.detail, commands=ways(needs.network, classifier=needs.classifier)
        )
    if needs.classifier and not network.classifier:
        detail = f"{network.detail} has no classifier (fc), so there are no logits: never scored by another layer"
        return Check(metric=metric, ready=False, detail=detail, commands=ways(needs.network, classifier=True))
    return Check(metric=metric, ready=True, detail=network.detail)
