"""Where the classes of each family are, and empty models of them.

A family folder gives data only; this table is the one place that knows which class a config builds.
"""

import dataclasses
import math
import types
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from smalti.hub.keymap import KeyMap

Role = Literal["tokenizer", "generator"]

# limits on what a config from a stranger may ask for
_LARGEST_NUMBER = 2**24  # in a config
_LARGEST_TENSOR = 2**28  # values of one computed tensor
_MOST = 100_000  # weights of one model


@dataclass(frozen=True, kw_only=True)
class Family:
    """The classes of one family in one role."""

    role: Role
    name: str
    config: str
    """Config class in `config.py`."""
    model: str
    """Model class in `model.py`."""

    def _module(self, name: str) -> Any:
        return import_module(f"smalti.{self.role}s.{self.name}.{name}")

    @property
    def config_class(self) -> type:
        """The frozen dataclass of sizes."""
        return getattr(self._module("config"), self.config)

    @property
    def model_class(self) -> type[nn.Module]:
        """The module, built from a config."""
        return getattr(self._module("model"), self.model)

    def key_map(self, config: Any) -> KeyMap:
        """Official key -> ours (see `smalti.hub.keymap`)."""
        return self._module("weights").key_map(config)

    def constants(self, config: Any) -> dict[str, Tensor]:
        """Official tensors that hold no information, to write back."""
        return self._module("weights").constants(config)

    @property
    def aliases(self) -> dict[str, str]:
        """Other official names that files may have -> those of the key map, for families that have such files."""
        return getattr(self._module("weights"), "ALIASES", {})

    def config_in(self, path: Path, config: Any) -> Any:
        """The config that an official file states itself, for families whose files do; otherwise `config`."""
        read = getattr(self._module("weights"), "config_in", None)
        return read(path, config) if read is not None else config

    def read_config(self, data: Mapping[str, Any]) -> Any:
        """The config from JSON; ValueError for a field it does not have, a value it refuses, or an absurd number."""
        for key, value in data.items():
            if any(
                isinstance(n, int) and abs(n) > _LARGEST_NUMBER for n in (value if isinstance(value, list) else [value])
            ):
                raise ValueError(f"the config asks for {key} = {value}; numbers up to {_LARGEST_NUMBER} make sense")
        return config_from_dict(self.config_class, data)


FAMILIES = (
    Family(role="tokenizer", name="var", config="VARTokenizerConfig", model="VARTokenizer"),
    Family(role="tokenizer", name="flextok", config="FlexTokConfig", model="FlexTokTokenizer"),
    Family(role="tokenizer", name="llamagen", config="LlamaGenTokenizerConfig", model="LlamaGenTokenizer"),
    Family(role="tokenizer", name="hita", config="HitaTokenizerConfig", model="HitaTokenizer"),
    Family(role="tokenizer", name="larp", config="LARPConfig", model="LARPTokenizer"),
    Family(role="tokenizer", name="mingtok", config="MingTokConfig", model="MingTok"),
    Family(role="tokenizer", name="lavit", config="LaVITConfig", model="LaVITTokenizer"),
    Family(role="tokenizer", name="seed", config="SEEDTokenizerConfig", model="SEEDTokenizer"),
    Family(role="tokenizer", name="detailflow", config="DetailFlowTokenizerConfig", model="DetailFlowTokenizer"),
    Family(role="tokenizer", name="titok", config="TiTokConfig", model="TiTok"),
    Family(role="tokenizer", name="maskgit", config="MaskGITTokenizerConfig", model="MaskGITTokenizer"),
    Family(role="tokenizer", name="kl", config="KLTokenizerConfig", model="KLTokenizer"),
    Family(role="generator", name="var", config="VARConfig", model="VARGenerator"),
    Family(role="generator", name="ming", config="MingConfig", model="MingGenerator"),
    Family(role="generator", name="hita", config="HitaConfig", model="HitaGenerator"),
    Family(role="generator", name="detailflow", config="DetailFlowConfig", model="DetailFlowGenerator"),
    Family(role="generator", name="llamagen", config="LlamaGenConfig", model="LlamaGenGenerator"),
    Family(role="generator", name="titok", config="TiTokGeneratorConfig", model="TiTokGenerator"),
    Family(role="generator", name="rar", config="RARConfig", model="RARGenerator"),
    Family(role="generator", name="nar", config="NARConfig", model="NARGenerator"),
    Family(role="generator", name="flextok", config="FlexARConfig", model="FlexARGenerator"),
)


def family(role: str, name: str) -> Family:
    """The family with this role and name; ValueError with those there are."""
    for entry in FAMILIES:
        if (entry.role, entry.name) == (role, name):
            return entry
    known = ", ".join(f"{f.role} {f.name}" for f in FAMILIES)
    raise ValueError(f"there is no {role} family {name!r}; known: {known}")


def family_of(thing: Any) -> Family:
    """The family of a model or a config object; ValueError if there is none."""
    for entry in FAMILIES:
        if type(thing).__name__ in (entry.config, entry.model) and isinstance(
            thing, entry.config_class if type(thing).__name__ == entry.config else entry.model_class
        ):
            return entry
    raise ValueError(f"{type(thing).__name__} is no model or config of a family; known: {[f.config for f in FAMILIES]}")


class _EmptyOnMeta(TorchFunctionMode):
    """Uninitialized memory is not allocated: the weights are about to come from a file.

    Unlike `torch.device("meta")` it leaves computed tensors (positions, tables) real. Initialization is skipped, which
    also spares the seconds that importing torch's Python code for meta tensors takes. A config from a stranger that
    asks for absurd sizes is a ValueError before it fills memory.
    """

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        target = args[0] if args else kwargs.get("tensor")  # torch.nn.init passes it by name
        in_place = name.endswith("_") and not name.startswith("_") and name != "requires_grad_"
        if in_place and isinstance(target, Tensor) and target.is_meta:
            return target
        if func is torch.empty and kwargs.get("device") is None:
            kwargs["device"] = "meta"
            self.count += 1
            if self.count > _MOST:
                raise ValueError(f"the config asks for more than {_MOST} weight tensors")
        if func in (torch.zeros, torch.ones, torch.full, torch.rand, torch.randn, torch.linspace, torch.arange):
            shape = args[0] if isinstance(target, (tuple, list)) else args
            if math.prod(n for n in shape if isinstance(n, int) and n > 0) > _LARGEST_TENSOR:
                raise ValueError(f"the config asks for a tensor of shape {list(shape)}")
        return func(*args, **kwargs)


def build_empty(role: str, name: str, config: Any) -> Any:
    """The model of a config whose large weights take no memory yet (meta device)."""
    with _EmptyOnMeta():
        return family(role, name).model_class(config)


def config_from_dict(cls: type, data: Mapping[str, Any]) -> Any:
    """A config dataclass from plain data; lists become tuples, nested dataclasses are built."""
    fields = {f.name for f in dataclasses.fields(cls)}
    if unknown := sorted(set(data) - fields):
        raise ValueError(
            f"{cls.__name__} has no field {', '.join(map(repr, unknown))}; known: {', '.join(sorted(fields))}"
        )
    hints = get_type_hints(cls)
    try:
        return cls(**{key: _value(hints[key], value) for key, value in data.items()})
    except TypeError as error:
        raise ValueError(f"{cls.__name__} cannot be made from this config: {error}") from error


def _value(hint: Any, value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_value(None, v) for v in value)
    options = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    classes = [o for o in options if isinstance(o, type) and dataclasses.is_dataclass(o)]
    if not isinstance(value, Mapping) or not classes:
        return value
    # of several classes the one that has these fields
    fitting = [c for c in classes if {f.name for f in dataclasses.fields(c)} >= set(value)]
    return config_from_dict((fitting or classes)[0], value)
