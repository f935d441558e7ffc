"""Linear layers in the CPU's own weight layout.

Generation reads every weight once a step, and for the few rows of a step that is what it costs. The stock product of a
few rows with a matrix reads at a fraction of the memory's speed; oneDNN's with reordered weights comes near it, in
float32 and in bfloat16. Its operators are private to torch: they are used only where a probe shows that they are there
and right, and everything stays as it is elsewhere.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_ROUNDING = {torch.float32: 1e-4, torch.bfloat16: 0.25}


@cache
def can_pack(dtype: torch.dtype = torch.float32) -> bool:
    """True if this build of torch and this CPU multiply packed weights, and get the stock product's result.

    float32 and bfloat16 can be packed; bfloat16 only on CPUs that compute in it.
    """
    if dtype not in _ROUNDING:
        return False
    rng = torch.Generator().manual_seed(0)
    x, weight, bias = (torch.randn(*shape, generator=rng).to(dtype) for shape in ((3, 32), (48, 32), (48,)))
    try:
        got = _multiply(x, _pack(weight), bias)
    except (AttributeError, RuntimeError):  # NotImplementedError is a RuntimeError
        return False
    return torch.allclose(got, F.linear(x, weight, bias), atol=_ROUNDING[dtype])


def pack_linears(model: nn.Module) -> bool:
    """Packs the weights of all `nn.Linear` of a model on the CPU, for inference; True if anything was packed.

    Outputs stay the same up to rounding. The plain weights are freed; `state_dict` and `unpack_linears` give them back.
    """
    packed = False
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if type(child) is nn.Linear and child.weight.device.type == "cpu" and can_pack(child.weight.dtype):
                setattr(module, name, PackedLinear(child))
                packed = True
    return packed


def unpack_linears(model: nn.Module) -> None:
    """Plain `nn.Linear` layers again: to train, or to move to another device."""
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, PackedLinear):
                setattr(module, name, child.plain())


class PackedLinear(nn.Linear):
    """y = x W^T + b with W in the CPU's layout; no gradients. `weight` has shape and dtype only."""

    def __init__(self, linear: nn.Linear) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features, self.bias = linear.in_features, linear.out_features, linear.bias
        self.weight = nn.Parameter(torch.empty_like(linear.weight, device="meta"), requires_grad=False)
        self._packed = _pack(linear.weight.detach())
        self.training = False

    def forward(self, input: Tensor) -> Tensor:
        """[..., in] -> [..., out]."""
        if torch.compiler.is_compiling():
            return _compiled_multiply(input, self._packed, self.bias, self.out_features)
        return _multiply(input, self._packed, self.bias)

    def plain(self) -> nn.Linear:
        """The layer with its weight in rows."""
        with torch.device("meta"):
            linear = nn.Linear(self.in_features, self.out_features, bias=False)
        linear.weight = nn.Parameter(self._packed.to_dense())
        linear.bias = self.bias
        return linear.eval()

    def train(self, mode: bool = True) -> Self:
        """Packed layers cannot be trained."""
        if mode:
            raise ValueError("these weights are packed for inference: use load(..., packed=False) to train")
        return super().train(mode)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """`model.to(...)` and its like: nothing to do on the CPU in the same dtype, otherwise a ValueError."""
        probe = fn(torch.empty(0, dtype=self.weight.dtype))
        if (probe.device.type, probe.dtype) != ("cpu", self.weight.dtype):
            raise ValueError("these weights are packed for the CPU: use load(..., packed=False) to move or cast them")
        return self

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[prefix + "weight"] = self._packed.to_dense()


def _pack(weight: Tensor) -> Tensor:
    return torch.ops.mkldnn._reorder_linear_weight(weight.contiguous())


def _multiply(x: Tensor, packed: Tensor, bias: Tensor | None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")


@torch.library.custom_op("smalti::packed_linear", mutates_args=())
def _compiled_multiply(x: Tensor, packed: Tensor, bias: Tensor | None, out: int) -> Tensor:
    """The same as one step that the compiler does not look into: it would take the weights for ones in rows."""
    return _multiply(x, packed, bias)


@_compiled_multiply.register_fake
def _(x: Tensor, packed: Tensor, bias: Tensor | None, out: int) -> Tensor:
    return x.new_empty(*x.shape[:-1], out)
