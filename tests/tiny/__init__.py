"""Every family at tiny size with random weights, one file per family: what the contract tests run over.

A file names its tokenizers in `TOKENIZERS` (name -> function that builds one), their training objectives in
`OBJECTIVES` (name -> function of the tokenizer that wraps it), its generators in `GENERATORS` (name -> function that
gives a `Generators`), and the published key lists of both in `KEY_LISTS` (registry name -> file in tests/goldens/keys).
"""

from importlib import import_module
from pkgutil import iter_modules
from typing import Any


def gathered(name: str) -> dict[str, Any]:
    """The tables of that name in all files of this folder, as one."""
    modules = [import_module(f"{__name__}.{m.name}") for m in iter_modules(__path__)]
    return {key: value for module in modules for key, value in getattr(module, name, {}).items()}
