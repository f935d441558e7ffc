"""The `smalti` command: one file per verb, imported when it is called; heavy imports are inside the functions."""

import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

VERBS = {
    "demo": "Reconstruct, generate and score with the packaged models; write a page.",
    "models": "List the models that can be loaded by name.",
    "info": "Everything known about one model.",
    "verify": "Check a model's file: hash, keys, shapes, values, pixel range.",
    "convert": "Authors' files to our folders and back.",
    "encode": "Images to a token file.",
    "decode": "A token file to images.",
    "reconstruct": "Images to tokens and back at several token budgets, scored.",
    "generate": "Images from classes or texts.",
    "inpaint": "Part of an image painted anew, or its surroundings invented.",
    "restyle": "Images with some kinds of tokens of another image.",
    "eval": "What a tokenizer keeps, or how good generated images are, with intervals.",
    "compare": "Results of several evaluations in one table, with paired differences.",
    "train": "Train a model by its recipe.",
    "data": "Prepare image folders and pack them for training.",
    "env": "Versions, devices and threads.",
}
USER_ERROR = 2


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one verb; returns the exit status: 0, or 2 with one line on standard error for what a user can mend.

    With SMALTI_DEBUG=1 in the environment such errors keep their traceback.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    # Waiting threads sleep: on a machine that also does other work, spinning ones make small models many times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        if not arguments or arguments[0] not in VERBS:
            return _overview(arguments or ["--help"])
        return import_module(f"smalti.cli.{arguments[0]}").main(arguments[1:]) or 0
    except BrokenPipeError:  # the reader of our output has seen enough, as in `smalti models | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("smalti: interrupted", file=sys.stderr)
        return 130
    except (ValueError, OSError, ImportError) as error:
        if os.environ.get("SMALTI_DEBUG"):
            raise
        print(f"smalti: {message(error)}", file=sys.stderr)
        return USER_ERROR


def message(error: Exception) -> str:
    """One line, without the error number the system puts in front."""
    text = error.strerror if isinstance(error, OSError) and error.strerror and not error.filename else str(error)
    return " ".join((text or type(error).__name__).split())


def call(function: Callable[..., int | None], name: str, arguments: Sequence[str]) -> int:
    """Parses `arguments` by the signature and docstring of `function`, and calls it."""
    import tyro

    config = (tyro.conf.FlagCreatePairsOff, tyro.conf.HelptextFromCommentsOff)
    return tyro.cli(function, prog=f"smalti {name}", args=list(arguments), config=config) or 0


def _overview(arguments: Sequence[str]) -> int:
    """The list of verbs, or the error for an unknown one; needs none of their files."""
    import tyro

    if arguments[0] == "--version":
        import smalti

        print(f"smalti {smalti.__version__}")
        return 0

    def verb(summary: str) -> Callable[[], None]:
        def nothing() -> None: ...

        nothing.__doc__ = summary
        return nothing

    stubs: dict[str, Callable[..., Any]] = {name: verb(summary) for name, summary in VERBS.items()}
    description = (
        "Image tokenizers and autoregressive image generators. Start with `smalti demo`; every verb has its own --help."
    )
    tyro.extras.subcommand_cli_from_dict(stubs, prog="smalti", description=description, args=list(arguments))
    return 0
