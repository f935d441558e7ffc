"""`smalti train`: the same as `python -m smalti.training`, which a machine without the rest of the package can run."""

from collections.abc import Sequence


def main(arguments: Sequence[str]) -> int:
    """Entry of the verb."""
    from smalti.training.__main__ import main as run

    return run(list(arguments) or ["--help"]) or 0
