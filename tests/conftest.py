"""Shared by all tests: no network, one thread a process, and the summary lines of the golden cases of all processes."""

import os
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # spinning threads make tiny models slow on a busy machine

import pytest
import torch

from tests.replay.case import LEDGER


@pytest.fixture(autouse=True, scope="session")
def _threads() -> None:
    alone = "PYTEST_XDIST_WORKER" not in os.environ
    torch.set_num_threads(max(1, min(2, os.cpu_count() or 1)) if alone else 1)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker hands over what it has compared."""
    output: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["ledger"] = [[*case, *counts] for case, counts in LEDGER.items()]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """The summary is written by the process that has started the workers."""
    for family, name, *counts in getattr(node, "workeroutput", {}).get("ledger", []):
        LEDGER[family, name] = tuple(counts)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Prints how many golden cases and tensors were compared, by family."""
    for family in sorted({f for f, _ in LEDGER}):
        cases = [counts for (f, _), counts in LEDGER.items() if f == family]
        compared, used, ignored = (sum(c[i] for c in cases) for i in range(3))
        terminalreporter.write_line(
            f"goldens {family}: {len(cases)} cases, {compared} tensors compared, {used} inputs, {ignored} ignored"
        )
