"""Proves that our code computes what the authors' code computes: replays every golden case through the public API.

`SMALTI_GOLDENS` names folders (joined by os.pathsep, searched recursively); by default the fixtures in tests/goldens.
A case is a folder with `config.json`; its family is the name of the folder that holds it.
"""

import os
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

import pytest

from tests import replay
from tests.replay.case import Case

REPLAYERS: dict[str, Callable[[Case], None]] = {
    name: replayer
    for module in iter_modules(replay.__path__)
    for name, replayer in getattr(import_module(f"{replay.__name__}.{module.name}"), "REPLAYERS", {}).items()
}
"""Folder of goldens -> what replays one of its cases; every file of tests/replay names its own."""
ROOTS = [Path(p) for p in os.environ.get("SMALTI_GOLDENS", str(Path(__file__).parent / "goldens")).split(os.pathsep)]
OTHER_LAYOUTS = ("metrics", "keys")  # folders with a layout of their own, replayed by other tests


def _cases(root: Path) -> list[Path]:
    found = sorted(p.parent for p in root.rglob("config.json"))
    return [p for p in found if not set(p.parts) & set(OTHER_LAYOUTS)]


@pytest.mark.parametrize("root", ROOTS, ids=str)
def test_every_named_folder_holds_cases(root: Path) -> None:
    """A folder that yields nothing would pass silently."""
    assert root.is_dir(), f"SMALTI_GOLDENS names {root}, which is no folder"
    assert _cases(root), f"{root} holds no golden case (a folder with config.json)"


@pytest.mark.parametrize("folder", [c for r in ROOTS for c in _cases(r)], ids=lambda p: f"{p.parent.name}/{p.name}")
def test_golden(folder: Path) -> None:
    """Replays one case and accounts for every stored tensor."""
    case = Case(folder)
    assert case.family in REPLAYERS, f"nobody replays the family {case.family!r} of {folder}"
    REPLAYERS[case.family](case)
    case.settle()
