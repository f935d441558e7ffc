"""The tasks of a run that draw their own images: detail and text, kept part by part."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import smalti
from smalti.eval.detail.result import TaskResult
from smalti.eval.progress import stage
from smalti.eval.run.parts import PartStore
from smalti.eval.run.pictures import write_charts
from smalti.eval.run.suites import Suite
from smalti.eval.tasks.detail_parts.setup import Reconstruct
from smalti.tokenizers.base import Tokenizer

if TYPE_CHECKING:
    from smalti.eval.run.evaluate import Settings


def generated_tasks(
    tokenizer: Tokenizer,
    budget: int,
    suite: Suite,
    settings: "Settings",
    reconstruct: Reconstruct,
    out: Path,
    work: Path,
) -> dict[str, Any]:
    """Plain data of `detail` and `text` as far as the suite has them, and of their `pictures`, written to `out`.

    Finished parts are kept in `work`-detail and `work`-text; a killed run goes on after the last of them. Errors:
    ValueError if those folders hold the parts of a run with other settings.
    """
    key = f"{tokenizer.name}@{budget}"
    side = tokenizer.sizes.value if tokenizer.sizes.kind == "fixed" else 256
    plan = {
        "subject": key,
        "weights": tokenizer.fingerprint,
        "size": side,
        "quick": suite.quick,
        "seed": settings.seed,
        "smalti": smalti.__version__,
    }

    def run(
        name: str, task: Callable[..., TaskResult], parts: Sequence[str], more: dict[str, Any], **options: Any
    ) -> None:
        kept = PartStore(work.with_name(f"{work.name}-{name}"), plan | more, parts)
        with stage(f"{tokenizer.name}: {name}", len(parts)) as advance:
            result = task(
                reconstruct, side, quick=suite.quick, seed=settings.seed, parts=tuple(parts),
                on_part=lambda _: advance(), keep=kept.part, **options,
            )  # fmt: skip
        found[name] = result.to_dict()
        found["pictures"] += write_charts(out, key, name, result.pictures)

    found: dict[str, Any] = {"pictures": []}
    if suite.detail:
        from smalti.eval.tasks.detail import PARTS, detail

        stride = _stride(tokenizer, side)
        run("detail", detail, tuple(PARTS), {"stride": stride}, stride=stride)
    if suite.text:
        from smalti.eval.tasks.text import PARTS as TEXT_PARTS
        from smalti.eval.tasks.text import text

        chosen = {"engine": settings.engine}
        run("text", text, tuple(TEXT_PARTS), chosen | _read_with(settings), **chosen, fonts=settings.fonts or None)
    return found


def _read_with(settings: "Settings") -> dict[str, Any]:
    """The reader and the fonts of the text task by their files: what is read with others is another result."""
    from smalti.eval.tasks.text_parts.setup import open_reader
    from smalti.eval.text.instruments import instruments
    from smalti.eval.text.scripts import NAMES, check_fonts

    return instruments(open_reader(settings.engine)[0], check_fonts(settings.fonts), NAMES)


def _stride(tokenizer: Tokenizer, side: int) -> int | None:
    grid = tokenizer.layout(side if tokenizer.sizes.kind != "fixed" else None).segments[-1].shape
    return side // grid[-1] if len(grid) == 2 else None
