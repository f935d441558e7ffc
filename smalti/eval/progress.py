"""Progress on a terminal as a bar, elsewhere as plain lines; always on standard error."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Advance = Callable[[], None]


@contextmanager
def stage(label: str, total: int) -> Iterator[Advance]:
    """A stage of `total` equal steps; the block gets a function to call after each of them."""
    if sys.stderr.isatty():
        yield from _bar(label, total)
        return
    start = time.perf_counter()
    yield lambda: None
    print(f"{label}: done in {time.perf_counter() - start:.1f} s", file=sys.stderr, flush=True)


def _bar(label: str, total: int) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(bar_width=28), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(f"{label:<34}", total=total)
        yield lambda: progress.advance(task)
