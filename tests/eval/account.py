"""The account of a values.json of golden metrics: every value is compared or ignored with a reason."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.replay.case import LEDGER
from tests.test_goldens import ROOTS


def parts(name: str) -> list[Path]:
    """Folders metrics/<name> below the golden roots."""
    return [p for root in ROOTS for p in sorted(root.rglob(f"metrics/{name}"))]


class Account:
    """Values of one folder by path: nested keys joined by "/", a list of numbers is one value."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.values = json.loads((folder / "values.json").read_text())
        self._open = dict(_leaves(self.values, ""))
        self._compared = self._ignored = 0

    def matching(self, pattern: str) -> list[re.Match[str]]:
        """Matches of a full-path pattern: settings stand in the keys."""
        found = [m for path in self._open if (m := re.fullmatch(pattern, path))]
        assert found, f"{self.folder} has no value {pattern!r}"
        return found

    def one(self, pattern: str) -> str:
        """The one path that matches."""
        (match,) = self.matching(pattern)
        return match[0]

    def compare(self, path: str, ours: Any, *, atol: float = 0.0, rtol: float = 0.0) -> None:
        """Ours against the stored value, which is settled by it."""
        theirs = self._open.pop(path)
        self._compared += 1
        if isinstance(theirs, str | bool) or isinstance(ours, str | bool):
            assert ours == theirs or float(ours) == float(theirs), f"{path}: {ours}, stored {theirs}"
            return
        a = torch.as_tensor(ours, dtype=torch.float64)
        b = torch.as_tensor(theirs, dtype=torch.float64)
        assert a.shape == b.shape, f"{path}: {list(a.shape)}, stored {list(b.shape)}"
        assert torch.allclose(a, b, rtol=rtol, atol=atol), f"{path}: {ours}, stored {theirs}"

    def ignore(self, pattern: str, reason: str) -> None:
        """Settles every value that matches without comparing it."""
        assert reason
        for match in self.matching(pattern):
            del self._open[match[0]]
            self._ignored += 1

    def settle(self) -> None:
        """Fails if a value is left over."""
        assert not self._open, f"{self.folder}: nobody compares or ignores {sorted(self._open)}"
        LEDGER[f"metrics/{self.folder.name}", str(self.folder)] = (self._compared, 0, self._ignored)


def require(found: list[Path]) -> list[Any]:
    """Parameters of the folders; none found is a failure, not a skip."""
    return [pytest.param(p, id=str(p)) for p in found] or [pytest.param(None, id="none")]


def _leaves(value: Any, path: str) -> Any:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, f"{path}/{key}" if path else key)
    elif isinstance(value, list) and any(isinstance(v, dict | list) for v in value):
        for i, inner in enumerate(value):
            yield from _leaves(inner, f"{path}/{i}")
    else:
        yield path, value
