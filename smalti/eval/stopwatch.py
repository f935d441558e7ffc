"""How long the parts of an evaluation take, in images per second, and how much memory the process has held."""

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch


class Stopwatch:
    """Seconds and images by name of what was done with them; the sums of two stopwatches add up.

    >>> watch = Stopwatch()
    >>> watch.add("psnr", 0.5, 10)
    >>> watch.add("psnr", 0.5, 30)
    >>> watch.rates()
    {'psnr': 40.0}
    """

    def __init__(self, sums: Mapping[str, Sequence[float]] | None = None) -> None:
        """`sums`: what `to_dict` gave."""
        self.sums: dict[str, list[float]] = {name: list(pair) for name, pair in (sums or {}).items()}

    @contextmanager
    def measure(self, name: str, images: int, device: torch.device | str = "cpu") -> Iterator[None]:
        """Times the block, which works on so many images on `device`; nothing is added if it raises."""
        wait_for(device)
        start = time.perf_counter()
        yield
        wait_for(device)
        self.add(name, time.perf_counter() - start, images)

    def add(self, name: str, seconds: float, images: float) -> None:
        """Adds a measured time."""
        before = self.sums.get(name, [0.0, 0.0])
        self.sums[name] = [before[0] + seconds, before[1] + images]

    def merge(self, sums: Mapping[str, Sequence[float]]) -> None:
        """Adds what `to_dict` of another one gave."""
        for name, (seconds, images) in sums.items():
            self.add(name, seconds, images)

    def to_dict(self) -> dict[str, list[float]]:
        """Name -> [seconds, images], plain data."""
        return {name: list(pair) for name, pair in self.sums.items()}

    def rates(self) -> dict[str, float]:
        """Name -> images per second."""
        return {name: images / seconds for name, (seconds, images) in self.sums.items() if seconds > 0}

    def seconds(self) -> dict[str, float]:
        """Name -> seconds in all."""
        return {name: seconds for name, (seconds, _) in self.sums.items()}


def wait_for(device: torch.device | str) -> None:
    """Waits until a GPU has done what it was asked: its work goes on after a call has returned."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def peak_megabytes() -> float:
    """Most memory the process has held, in units of 2^20 bytes.

    Linux's own count of this process where there is one: what `getrusage` says includes the process that started it.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1024)


def peak_device_megabytes(device: torch.device | str) -> float | None:
    """Most memory that tensors have taken on a GPU, in units of 2^20 bytes; None on a CPU."""
    return torch.cuda.max_memory_allocated(device) / (1 << 20) if torch.device(device).type == "cuda" else None
