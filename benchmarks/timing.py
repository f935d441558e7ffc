"""What the benchmarks share: medians, and the rates this machine reaches, measured in the same process."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from smalti.eval import stopwatch
from smalti.nn.linear import pack_linears

_BYTES = 400_000_000  # far beyond any cache


@dataclass(frozen=True, kw_only=True)
class Rates:
    """What a linear layer can reach here."""

    gigabytes_per_second: float
    """Weights read by products with two rows: the best of the stock and the packed layout."""
    gigaflops: float
    """Products with 512 rows, the best of both."""


def median_seconds(run: Callable[[], object], repeat: int, warm_up: int = 1) -> float:
    """Median wall time after a warm-up."""
    for _ in range(warm_up):
        run()
    times = []
    for _ in range(repeat):
        begin = time.perf_counter()
        run()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - begin)
    return sorted(times)[len(times) // 2]


def peak_megabytes(device: torch.device) -> float:
    """Most memory held so far: of the process, or on the GPU."""
    on_device = stopwatch.peak_device_megabytes(device)
    return stopwatch.peak_megabytes() if on_device is None else on_device


@torch.inference_mode()
def measure_rates(device: torch.device, dtype: torch.dtype) -> Rates:
    """Rates of linear layers of the width of small generators, on this device, at this moment."""
    width, hidden = 1024, 4096
    count = _BYTES // (width * hidden * dtype.itemsize)
    layers = nn.Sequential(*[nn.Linear(width, hidden, bias=False) for _ in range(count)]).to(device, dtype)
    inputs = {n: torch.randn(n, width, device=device, dtype=dtype) for n in (2, 512)}
    seconds = {n: [_pass(layers, x)] for n, x in inputs.items()}
    if device.type == "cpu" and pack_linears(layers):
        for n, x in inputs.items():
            seconds[n].append(_pass(layers, x))
    flops = 2 * 512 * count * width * hidden
    return Rates(
        gigabytes_per_second=count * width * hidden * dtype.itemsize / min(seconds[2]) / 1e9,
        gigaflops=flops / min(seconds[512]) / 1e9,
    )


def _pass(layers: nn.Sequential, x: Tensor) -> float:
    return median_seconds(lambda: [layer(x) for layer in layers], repeat=3)


class Traffic:
    """Counts what the linear layers of a model read and compute while it runs; use as a context."""

    def __init__(self, model: nn.Module, rates: Rates) -> None:
        self.model, self.rates = model, rates
        self.gigabytes = self.gigaflop = self.floor_seconds = 0.0

    def __enter__(self) -> "Traffic":
        linears = [m for m in self.model.modules() if isinstance(m, nn.Linear)]
        self._hooks = [m.register_forward_hook(self._count) for m in linears]
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def _count(self, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(layer, nn.Linear)
        size = layer.in_features * layer.out_features
        read = size * layer.weight.dtype.itemsize / 1e9
        flop = 2 * size * (output.numel() // layer.out_features) / 1e9
        self.gigabytes += read
        self.gigaflop += flop
        self.floor_seconds += max(read / self.rates.gigabytes_per_second, flop / self.rates.gigaflops)
