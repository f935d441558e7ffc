"""Which model a state dict is of: by its keys and shapes against every known one."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from torch import Tensor

from smalti.hub import keymap
from smalti.hub.assembly import official_shapes
from smalti.hub.families import Role, family
from smalti.hub.registry import Entry, Folder, HubFile, entries


def fitting(state: Mapping[str, Tensor], *, role: Role | None = None) -> list[Entry]:
    """The published models whose keys and shapes are exactly those of the state dict, in order of registration."""
    shapes = {key: tuple(value.shape) for key, value in state.items()}
    return [
        entry
        for entry in entries()
        if not isinstance(entry.source, Folder) and entry.settings.then is None and role in (None, entry.role)
        if _fits(shapes, entry)
    ]


def _fits(shapes: Mapping[str, tuple[int, ...]], entry: Entry) -> bool:
    found = family(entry.role, entry.family)
    shapes, key_map = keymap.renamed(keymap.part(shapes, entry.prefix), found.aliases), found.key_map(entry.config)
    if not keymap.covers(shapes, key_map):  # cheap, and spares building most of the models
        return False
    expected = official_shapes(entry.role, entry.family, entry.config)
    unneeded = keymap.dropped(shapes, key_map)
    needed = {key: shape for key, shape in shapes.items() if key not in unneeded}
    elsewhere = tuple(c.prefix for c in entry.companions)
    return needed in (expected, {key: shape for key, shape in expected.items() if not key.startswith(elsewhere)})


def best(state: Mapping[str, Tensor], path: Path, role: Role | None = None) -> Entry:
    """The model a file holds; its file name decides between models of the same layout.

    Errors: WeightsError if none fits, or several that differ in more than their training.
    """
    found = fitting(state, role=role)
    for parts in (99, 1):  # by the path it is published under, or by its name alone
        named = [e for e in found if isinstance(e.source, HubFile) and _ends(path, e.source.file, parts)]
        if len(named) == 1:
            return named[0]
    if not found and role is not None and (others := fitting(state)):
        raise keymap.WeightsError(f"{path} is a {others[0].role} file ({others[0].name}), you asked for a {role}")
    if not found:
        known = sorted({e.family for e in entries()})
        example = next(iter(state), "")
        raise keymap.WeightsError(
            f"{path} fits no {role or 'model'} known here ({len(state)} tensors, such as {example!r}; families: "
            f"{', '.join(known)}): pass like='var/d16' to see what differs from a model, or config= for other sizes"
        )
    found = named or found
    if len({(e.role, e.family, e.config, e.tokenizer) for e in found}) > 1:
        names = [e.name for e in found]
        raise keymap.WeightsError(
            f"{path} fits {' and '.join(names)}, which have the same keys and shapes: "
            f"say which, {' or '.join(f'like={name!r}' for name in names)}"
        )
    return found[0]


def _ends(path: Path, published: str, parts: int) -> bool:
    """True if the last parts of a published path, at most so many, are those of `path`."""
    last = Path(published).parts[-parts:]
    return path.parts[-len(last) :] == last


def cause(state: Mapping[str, Tensor], entry: Entry) -> str:
    """The likely reason why a state dict is not this entry's, "" if none is seen."""
    others = fitting(state)
    if not others:
        return ""
    other = others[0]
    if other.role != entry.role:
        return f"this is a {other.role} file ({other.name}), you asked for the {entry.role} {entry.name}"
    mine, theirs = asdict(entry.config), asdict(other.config)
    differing = [f"{k} {v} instead of {mine.get(k)}" for k, v in theirs.items() if mine.get(k) != v]
    return f"this looks like {other.name} ({', '.join(differing[:3])}), you asked for {entry.name}"
