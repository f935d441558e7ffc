"""Shared by all tests: one thread, no network, and the summary line of the golden cases."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # spinning threads make tiny models slow on a busy machine

import pytest
import torch

from tests.replay.case import LEDGER


@pytest.fixture(autouse=True, scope="session")
def _threads() -> None:
    torch.set_num_threads(max(1, min(2, os.cpu_count() or 1)))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Prints how many golden cases and tensors were compared, by family."""
    for family in sorted({f for f, _ in LEDGER}):
        cases = [counts for (f, _), counts in LEDGER.items() if f == family]
        compared, used, ignored = (sum(c[i] for c in cases) for i in range(3))
        terminalreporter.write_line(
            f"goldens {family}: {len(cases)} cases, {compared} tensors compared, {used} inputs, {ignored} ignored"
        )
