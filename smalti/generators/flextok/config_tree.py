"""A tree of Hydra nodes as plain data: `_target_` names a class, the other entries are its arguments, and `${a.b}`
stands for another entry. Nothing is imported or called.
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import yaml

_OF_HYDRA = ("_target_", "_partial_", "_recursive_", "_convert_")
_RENAMED = ("torch.nn.modules.activation.", "torch.nn.modules.normalization.", "torch.nn.modules.linear.")
_DEEPEST = 32  # references behind one another


class Node(NamedTuple):
    """A class and its arguments, which are other nodes, references, or plain values."""

    target: str
    arguments: dict[str, Any]

    @property
    def name(self) -> str:
        """The class name."""
        return self.target.rpartition(".")[2]

    def get(self, name: str, default: Any = None) -> Any:
        """An argument; the default also where it is null."""
        value = self.arguments.get(name)
        return default if value is None else value

    def number(self, name: str, default: float | None = None) -> float:
        """A number; YAML reads 1e-5 as text, which counts."""
        value = self.get(name, default)
        try:
            if isinstance(value, (int, float, str)) and not isinstance(value, bool):
                return float(value)
        except ValueError:
            pass
        raise ValueError(f"{self.name}.{name} must be a number, got {value!r}")

    def count(self, name: str, default: int | None = None) -> int:
        """A positive whole number."""
        value = self.number(name, default)
        if not 1 <= value <= 2**24 or value != int(value):
            raise ValueError(f"{self.name}.{name} must be a positive whole number, got {value:g}")
        return int(value)

    def flag(self, name: str, default: bool) -> bool:
        """True or false."""
        value = self.get(name, default)
        if not isinstance(value, bool):
            raise ValueError(f"{self.name}.{name} must be true or false, got {value!r}")
        return value


class Tree:
    """A whole config, and what may stand in it."""

    def __init__(self, root: Mapping[str, Any], allowed: Mapping[str, str]) -> None:
        """`allowed`: target -> the arguments it may have, some with the one value they must have ("a b=1 c")."""
        self.root, self.allowed = root, allowed

    def value(self, value: Any) -> Any:
        """The value itself, or what a reference stands for."""
        for _ in range(_DEEPEST):
            if not (isinstance(value, str) and "${" in value):
                return value
            found = re.fullmatch(r"\$\{([\w.]+)\}", value)
            if not found:
                raise ValueError(f"{value!r} is no plain reference such as ${{constants.width}}, which alone are read")
            value = self.root
            for key in found[1].split("."):
                value = self.value(value)
                if not isinstance(value, Mapping) or key not in value:
                    raise ValueError(f"the reference ${{{found[1]}}} leads nowhere")
                value = value[key]
        raise ValueError(f"references go in a circle at {value!r}")

    def node(self, value: Any, *names: str) -> Node:
        """A node of one of these class names (or any known one); ValueError for anything unknown, by name."""
        value = self.value(value)
        if not isinstance(value, Mapping) or not isinstance(value.get("_target_"), str):
            raise ValueError(f"a part with a _target_ was expected, got {value!r:.80}")
        target = value["_target_"]
        for prefix in _RENAMED:
            target = target.replace(prefix, "torch.nn.")
        if target not in self.allowed:
            raise ValueError(f"the config names {target!r}, which is no part of FlexAR known here")
        node = Node(target, self._arguments(target, value))
        if names and node.name not in names:
            raise ValueError(f"{target} stands where only {' or '.join(names)} is supported")
        return node

    def _arguments(self, target: str, node: Mapping[str, Any]) -> dict[str, Any]:
        known = {name: only for name, _, only in (a.partition("=") for a in self.allowed[target].split())}
        arguments: dict[str, Any] = {}
        for key, value in node.items():
            if key in _OF_HYDRA or (key not in known and key.endswith(("read_key", "write_key", "target_key"))):
                continue  # how parts are wired
            if key not in known:
                raise ValueError(f"{target} has an argument {key!r} that is not known here; known: {', '.join(known)}")
            arguments[key] = self.value(value)
            if known[key] and arguments[key] != yaml.safe_load(known[key]):
                raise ValueError(f"{target} with {key} = {arguments[key]!r:.80} is not supported, only {known[key]}")
        return arguments
