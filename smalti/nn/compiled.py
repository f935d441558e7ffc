"""The blocks of a generator through `torch.compile`: the same numbers up to rounding, in another time.

One compiled function serves all blocks of a model that are alike: their weights are its inputs. Inside it nothing
depends on how far a generation has come but the sizes of its inputs, which are symbols there: of the key-value cache a
block gets the part that is in use, which grows by the tokens of every step, and writes to its end in place. So a whole
generation needs a few compilations (a first step of one place, steps of one token, steps of many, without and
with null rows), however long it is.

Mode: torch's default, without CUDA graphs (`mode="reduce-overhead"`). A CUDA graph replays fixed addresses and sizes:
here the cache grows, so every step would record a graph of its own; and it is written in place, behind the back of the
graphs' memory pool, which makes torch skip the graph or copy the cache at every step. A cache of fixed size, read whole
under a mask, would allow them, at the price of attention over places that are not there yet.
"""

import inspect
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smalti.nn.cache import KVCache
from smalti.nn.linear import PackedLinear, pack_linears, unpack_linears

_numbers = itertools.count()


class LayerCache:
    """The keys and values of one layer as far as they are in use, the new tokens' places at the end included.

    Stands in for a `KVCache` inside a block. Shape suffixes as there.
    """

    def __init__(self, cache: KVCache, layer: int, count: int) -> None:
        # Two tensors [R, H, used + n, d]: parts of one would be copied to be written and copied back.
        self.keys, self.values = (t.narrow(2, 0, cache.used + count) for t in cache.values[layer].unbind())
        for part in (self.keys, self.values):  # sizes equal by chance, as two rows and two heads, would be one symbol
            torch._dynamo.mark_static(part, [1, 3])

    def extend(self, layer: int, k_RHnd: Tensor, v_RHnd: Tensor) -> tuple[Tensor, Tensor]:
        """As `KVCache.extend`, of the one layer there is."""
        count = k_RHnd.shape[2]
        self.keys[:, :, -count:].copy_(k_RHnd)
        self.values[:, :, -count:].copy_(v_RHnd)
        return self.keys, self.values


def blocks_of(model: nn.Module) -> Iterator[nn.Module]:
    """The members of a model's module lists that consist of layers, without those that say they stay `eager`."""
    for child in model.children():
        parts = list(child) if isinstance(child, nn.ModuleList) else []
        blocks = [part for part in parts if any(True for _ in part.children())]
        yield from (block for block in blocks if not getattr(block, "eager", False))
        if not blocks:
            yield from blocks_of(child)


def compile_blocks(model: nn.Module) -> None:
    """Compiles the blocks of a model in place, for inference; the compilations happen as sizes come up.

    Names, state dict, `.to()` and `train()` stay as they are: with gradients the blocks run as written, a copy of the
    model (`copy.deepcopy`) is not compiled. Packed linear layers stay packed where this build of torch can compile them
    and are unpacked where not. Errors: ValueError where nothing can be compiled here (no C++ compiler, for instance),
    or the model has no blocks.
    """
    blocks = list(blocks_of(model))
    if not blocks:
        raise ValueError(f"{type(model).__name__} has no blocks to compile: leave out compile=True")
    check_compiler(_device_of(model))
    if any(isinstance(module, PackedLinear) for module in model.modules()) and not _compiles_packed():
        unpack_linears(model)
    compiled = torch.compile(_runner(type(model).__name__), dynamic=True)
    for block in blocks:
        # What nn.Module.compile sets, around the cache: called instead of forward, and left out of copies and pickles.
        block._compiled_call_impl = _calling(block, compiled)  # type: ignore[assignment]


def check_compiler(device: torch.device) -> None:
    """ValueError with what to do if `torch.compile` does not work on a device."""
    try:
        got = torch.compile(lambda x: F.silu(x) * x, dynamic=True)(torch.ones(2, 3, device=device))
    except (RuntimeError, ImportError, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        needed = "a C++ compiler" if device.type == "cpu" else "a C++ compiler and Triton"
        raise ValueError(
            f"torch.compile does not work here ({reason}): it needs {needed} (Linux: apt install g++, or CXX=path of "
            "one; macOS: xcode-select --install; Windows: the Visual Studio Build Tools), or leave out compile=True"
        ) from error
    assert torch.allclose(got, F.silu(torch.ones_like(got)))


def _compiles_packed() -> bool:
    """True if packed linear layers can be compiled, and give what they give without."""
    layer, x = nn.Sequential(nn.Linear(32, 48)), torch.ones(3, 32)
    pack_linears(layer)
    try:
        with torch.no_grad():
            return torch.allclose(torch.compile(lambda x: layer(x), dynamic=True)(x), layer(x), atol=1e-5)
    except RuntimeError:
        return False


def _device_of(model: nn.Module) -> torch.device:
    """The weights' device; those of packed layers only stand for theirs, on the CPU."""
    devices = {p.device for p in model.parameters()} - {torch.device("meta")}
    return next(iter(devices), torch.device("cpu"))


def _runner(name: str) -> Callable[..., Any]:
    """A function of its own for a model: torch keeps and counts compilations by a function's code and its name."""

    def run(block: nn.Module, arguments: dict[str, Any]) -> Any:
        return block._call_impl(**arguments)  # __call__ would come back here

    run.__code__ = run.__code__.replace(co_name=f"{name}_blocks_{next(_numbers)}")
    return run


def _calling(block: nn.Module, compiled: Callable[..., Any]) -> Callable[..., Any]:
    """What a block's call does."""
    signature = inspect.signature(block.forward)
    first = next(iter(signature.parameters))

    def call(*args: Any, **kwargs: Any) -> Any:
        if torch.is_grad_enabled():
            return block._call_impl(*args, **kwargs)
        given = signature.bind(*args, **kwargs).arguments
        arguments = {name: _plain(value) for name, value in given.items()}
        cache = arguments.get("cache")
        if cache is not None:
            arguments["cache"] = LayerCache(cache, arguments["layer"], arguments[first].shape[1])
            arguments["layer"] = 0
        return compiled(block, arguments)

    return call


def _plain(value: Any) -> Any:
    """An argument as the compiler likes it: complex numbers as pairs of real ones, parts of tables as tensors."""
    if not isinstance(value, Tensor):
        return value
    if value.is_complex():
        value = torch.view_as_real(value).clone()
        torch._dynamo.mark_static(value, [value.ndim - 2, value.ndim - 1])
    return value.clone() if value._is_view() else value  # it would make a version for the place in the table
