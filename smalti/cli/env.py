"""`smalti env`: what a bug report should hold."""

from collections.abc import Sequence

from smalti.cli import call
from smalti.cli.console import print_facts, print_json


def env(*, json: bool = False) -> None:
    """Versions, devices and threads.

    Args:
        json: Print JSON.
    """
    from smalti.eval.environment import environment

    facts = environment()
    if json:
        print_json(facts)
        return
    packages = "\n".join(f"{name} {version or 'not installed'}" for name, version in facts["packages"].items())
    rows = [("smalti", facts["smalti"]), ("python", facts["python"]), ("platform", facts["platform"])]
    rows += [("device", facts["device"]), ("threads", str(facts["threads"])), ("packages", packages)]
    print_facts(rows)


def main(arguments: Sequence[str]) -> int:
    """Entry of the verb."""
    return call(env, "env", arguments)
