"""`smalti compare`: results of several evaluations in one table, and image by image where the images agree."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from smalti.cli import call
from smalti.cli.console import print_json, print_table


def compare(
    runs: Annotated[Positional[tuple[Path, ...]], arg(metavar="RUN RUN [RUN ...]")],
    *,
    out: Path | None = None,
    split: bool = False,
    format: Literal["text", "markdown", "latex", "csv"] = "text",
    seed: int = 0,
    json: bool = False,
) -> None:
    """Results of several evaluations in one table, with paired differences where the images are the same.

    Results by different protocols never share a column, nor do distances to different reference sets: without --split
    such runs are refused.

    Args:
        runs: Folders of finished `smalti eval --out`.
        out: Folder for comparison.json and report.html.
        split: Give results that were not measured alike columns of their own.
        format: How to print: text for reading here, markdown, latex, or csv with unrounded values.
        seed: Of the bootstrap.
        json: Print the comparison as JSON.
    """
    from smalti.eval.run.compare import compare as side_by_side
    from smalti.eval.run.compare import shown
    from smalti.eval.run.export import exported

    found = side_by_side(runs, split=split, seed=seed)
    if out is not None:
        from smalti.eval.report.compare_page import write_comparison
        from smalti.eval.run.result import plain_data
        from smalti.files import write_json

        write_json(out / "comparison.json", plain_data(found.to_dict()))
        report = write_comparison(found, out)
    if json:
        print_json(found.to_dict())
        return
    if format != "text":
        print(exported(found, format), end="")
        return
    for title, header, body in shown(found):
        print(f"\n{title}")
        print_table(header, body, texts=3 if title == "paired differences" else 1)
    for note in found.notes:
        print(f"note: {note}")
    if out is not None:
        print(f"\n{report}")


def main(arguments: Sequence[str]) -> int:
    """Entry of the verb."""
    return call(compare, "compare", arguments)
