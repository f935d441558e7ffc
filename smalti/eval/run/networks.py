"""The networks a run can use: found by file, never downloaded unasked; what is missing is named with how to get it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from smalti.eval.inception import Inception
from smalti.eval.perceptual import Dists, Lpips
from smalti.eval.protocols.base import Protocol
from smalti.eval.tasks.reconstruction import Networks
from smalti.eval.weights import Weights, load

Given = Mapping[str, str | Path] | None


def networks_for(
    protocol: Protocol, given: Given, *, allow_unknown: bool = False
) -> tuple[Networks, dict[str, str], dict[str, Any]]:
    """Networks of a protocol that are there; reasons for those that are not, by metric; facts of the files used.

    Errors: ValueError for a file that was given and is wrong.
    """
    reasons: dict[str, str] = {}
    facts: dict[str, Any] = {}

    def get(metric: str, name: str) -> Weights | None:
        try:
            weights = load(name, given, allow_unknown=allow_unknown)
        except (FileNotFoundError, ImportError) as error:
            reasons[metric] = str(error)
            return None
        facts[name] = weights.to_dict()
        return weights

    lpips = {}
    for backbone in protocol.lpips:
        weights = get(f"lpips_{backbone}", f"lpips-{backbone}")
        if weights is not None:
            lpips[backbone] = Lpips(weights.state, backbone, signed_input=protocol.lpips_input == "signed")  # type: ignore[arg-type]
    vgg = get("dists", "lpips-vgg") if protocol.name == "native" else None
    inception = get("fid", "inception") if protocol.fid is not None else None
    if protocol.fid is not None and inception is None:
        reasons |= dict.fromkeys(("kid", "precision", "recall"), reasons["fid"])
    return (
        Networks(
            lpips=lpips,
            dists=Dists(vgg.state) if vgg is not None else None,
            inception=Inception(inception.state, resize=protocol.fid["resize"]) if inception and protocol.fid else None,  # type: ignore[arg-type]
        ),
        reasons,
        facts,
    )
