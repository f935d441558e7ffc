"""The tasks of a run that draw their own images: detail and text, kept part by part."""

from collections.abc import Callable
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
    found: dict[str, Any] = {"pictures": []}
    tasks: dict[str, Callable[..., TaskResult]] = {}
    if suite.detail:
        tasks["detail"] = _detail
    if suite.text:
        tasks["text"] = _text
    for task, run in tasks.items():
        result = run(tokenizer, side, suite, settings, reconstruct, work.with_name(f"{work.name}-{task}"), plan)
        found[task] = result.to_dict()
        found["pictures"] += write_charts(out, key, task, result.pictures)
    return found


def _detail(
    tokenizer: Tokenizer,
    side: int,
    suite: Suite,
    settings: "Settings",
    reconstruct: Reconstruct,
    work: Path,
    plan: dict[str, Any],
) -> TaskResult:
    from smalti.eval.tasks.detail import PARTS, detail

    stride = _stride(tokenizer, side)
    kept = PartStore(work, plan | {"stride": stride}, tuple(PARTS))
    with stage(f"{tokenizer.name}: detail", len(PARTS)) as advance:
        return detail(
            reconstruct, side, stride=stride, quick=suite.quick, seed=settings.seed,
            parts=tuple(PARTS), on_part=lambda _: advance(), keep=kept.part,
        )  # fmt: skip


def _text(
    tokenizer: Tokenizer,
    side: int,
    suite: Suite,
    settings: "Settings",
    reconstruct: Reconstruct,
    work: Path,
    plan: dict[str, Any],
) -> TaskResult:
    from smalti.eval.tasks.text import PARTS, text
    from smalti.eval.tasks.text_parts.setup import open_reader
    from smalti.eval.text.instruments import instruments
    from smalti.eval.text.scripts import NAMES, check_fonts

    read_with = instruments(open_reader(settings.engine)[0], check_fonts(settings.fonts), NAMES)
    kept = PartStore(work, plan | {"engine": settings.engine} | read_with, tuple(PARTS))
    with stage(f"{tokenizer.name}: text", len(PARTS)) as advance:
        return text(
            reconstruct, side, quick=suite.quick, seed=settings.seed, engine=settings.engine,
            fonts=settings.fonts or None, parts=tuple(PARTS), on_part=lambda _: advance(), keep=kept.part,
        )  # fmt: skip


def _stride(tokenizer: Tokenizer, side: int) -> int | None:
    grid = tokenizer.layout(side if tokenizer.sizes.kind != "fixed" else None).segments[-1].shape
    return side // grid[-1] if len(grid) == 2 else None
