"""Official weight names <-> ours, by a visible table, strictly: no key is ignored that the table does not drop.

A table maps an official key to ours. `{}` stands for a number; the same numbers are filled in on both sides, in order.
Several names of ours stand for equal parts of the official tensor along its first axis, in order.
None marks an official key that is dropped on purpose, because our model computes it, or has it from elsewhere; `*` at
the end of such a key stands for anything.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

Target = str | tuple[str, ...] | None
KeyMap = Mapping[str, Target]

_SHOWN = 10


class WeightsError(ValueError):
    """A file does not hold the weights of the model that was asked for."""


class _Table:
    """One direction of a key map."""

    def __init__(self, pairs: Iterable[tuple[str, Target]]) -> None:
        self.exact: dict[str, Target] = {}
        self.patterns: list[tuple[re.Pattern[str], str | None]] = []
        for source, target in pairs:
            if "{}" not in source and not source.endswith("*"):
                self.exact[source] = target
                continue
            if source.endswith("*") and target is not None:
                raise ValueError(f"key map: {source!r} stands for any key, which can only be dropped")
            if isinstance(target, tuple):
                raise ValueError(f"key map: {source!r} stands for numbered keys, which cannot be cut into {target}")
            if target is not None and source.count("{}") != target.count("{}"):
                raise ValueError(f"key map: {source!r} and {target!r} have different numbers of {{}}")
            pattern = re.escape(source).replace(r"\{\}", r"(\d+)").replace(r"\*", ".*")
            self.patterns.append((re.compile(pattern), target))

    def __contains__(self, key: str) -> bool:
        return key in self.exact or any(p.fullmatch(key) for p, _ in self.patterns)

    def __getitem__(self, key: str) -> Target:
        if key in self.exact:
            return self.exact[key]
        for pattern, target in self.patterns:
            if match := pattern.fullmatch(key):
                return None if target is None else target.format(*match.groups())
        raise KeyError(key)


def to_ours(state: Mapping[str, Tensor], key_map: KeyMap) -> dict[str, Tensor]:
    """Official state dict under our names, without the dropped keys; WeightsError for keys that are not in the map."""
    table = _Table(key_map.items())
    unknown = [key for key in state if key not in table]
    if unknown:
        raise WeightsError("keys that this model does not have:" + _listed({key: "" for key in unknown}))
    ours: dict[str, Tensor] = {}
    for key, value in state.items():
        target = table[key]
        if isinstance(target, tuple):
            ours |= zip(target, value.chunk(len(target)), strict=True)
        elif target is not None:
            ours[target] = value
    return ours


def to_official(
    state: Mapping[str, Tensor], key_map: KeyMap, constants: Mapping[str, Tensor] | None = None
) -> dict[str, Tensor]:
    """Our state dict under the official names, with the dropped keys written back from `constants`.

    Errors: WeightsError for keys that are not in the map.
    """
    joined = {official: ours for official, ours in key_map.items() if isinstance(ours, tuple)}
    parts = {part for ours in joined.values() for part in ours}
    table = _Table((ours, official) for official, ours in key_map.items() if isinstance(ours, str))
    unknown = [key for key in state if key not in table and key not in parts]
    if unknown:
        raise WeightsError("keys that have no official name:" + _listed({key: "" for key in unknown}))
    named = {str(table[key]): value for key, value in state.items() if key not in parts}
    return {**named, **{k: torch.cat([state[p] for p in ours]) for k, ours in joined.items()}, **(constants or {})}


def renamed(state: Mapping[str, Any], aliases: Mapping[str, str]) -> dict[str, Any]:
    """The same values with older official names replaced by today's; keys that are no alias stay."""
    table = _Table(aliases.items())
    return {str(table[key]) if key in table else key: value for key, value in state.items()}


def part(state: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """The values whose keys begin with a prefix, without it."""
    return {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}


def covers(keys: Iterable[str], key_map: KeyMap) -> bool:
    """True if every official key stands in the map."""
    table = _Table(key_map.items())
    return all(key in table for key in keys)


def dropped(keys: Iterable[str], key_map: KeyMap) -> set[str]:
    """Which official keys the map drops on purpose."""
    table = _Table((k, v) for k, v in key_map.items() if v is None)
    return {key for key in keys if key in table}


def check_keys(
    expected: Mapping[str, tuple[int, ...]], state: Mapping[str, Any], *, title: str = "the weights", hint: str = ""
) -> None:
    """WeightsError unless `state` has exactly the expected keys and shapes.

    The message groups missing, unexpected and wrongly shaped keys by module, with counts; `hint` is the likely cause.
    """
    missing = {key: "" for key in expected if key not in state}
    unexpected = {key: "" for key in state if key not in expected}
    shapes = {k: tuple(state[k].shape) for k in expected if k in state}
    wrong = {k: f" is {list(s)}, expected {list(expected[k])}" for k, s in shapes.items() if s != tuple(expected[k])}
    if not (missing or unexpected or wrong):
        return
    lines = [f"{title} do not fit the model{': ' + hint if hint else ''}"]
    for label, keys in (("missing", missing), ("unexpected", unexpected), ("wrong shape", wrong)):
        if keys:
            lines.append(f"{len(keys)} {label}:{_listed(keys)}")
    raise WeightsError("\n".join(lines))


def _listed(keys: Mapping[str, str]) -> str:
    """Keys grouped by module (numbers as {}), one line a group: count and one example."""
    groups = _grouped(keys, depth=99)
    for depth in (3, 2, 1):
        if len(groups) > _SHOWN:
            groups = _grouped(keys, depth=depth)
    lines = []
    for module, members in list(groups.items())[:_SHOWN]:
        first = members[0]
        count = f"{len(members)} keys, such as " if len(members) > 1 else ""
        lines.append(f"\n  {module}: {count}{first}{keys[first]}")
    if len(groups) > _SHOWN:
        lines.append(f"\n  and {len(groups) - _SHOWN} more groups")
    return "".join(lines)


def _grouped(keys: Iterable[str], depth: int) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for key in keys:
        parts = ["{}" if part.isdigit() else part for part in key.split(".")]
        groups.setdefault(".".join(parts[:-1][:depth] or parts), []).append(key)
    return groups
