"""`smalti verify`: what can be checked of a model on this machine."""

from collections.abc import Sequence
from dataclasses import asdict

from tyro.conf import Positional

from smalti.cli import call
from smalti.cli.console import print_json, print_table


def verify(model: Positional[str], *, like: str | None = None, wrapping: str | None = None, json: bool = False) -> int:
    """Check a model's file: hash where known, keys, shapes, values, and that a gray image comes back gray.

    The exit status is 0 if nothing failed, else 1.

    Args:
        model: Model name, folder or weight file.
        like: Name of the model a file should be, where its keys do not tell.
        wrapping: Which of several state dicts in a file, such as "ema".
        json: Print JSON.
    """
    from smalti.hub.verification import verify as run

    entry, checks = run(model, like=like, wrapping=wrapping)
    failed = any(check.result == "failed" for check in checks)
    if json:
        print_json({"model": entry.name, "ok": not failed, "checks": [asdict(check) for check in checks]})
    else:
        print(f"{entry.name}: {entry.family} {entry.role}")
        print_table(["check", "result", "detail"], [[c.name, c.result, c.detail] for c in checks], texts=3)
    return int(failed)


def main(arguments: Sequence[str]) -> int:
    """Entry of the verb."""
    return call(verify, "verify", arguments)
