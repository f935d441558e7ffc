"""Conditions on a result, for continuous integration: "psnr>=20", "mini/var@14:ssim>0.5"."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from smalti.eval.run.result import EvalResult

_COMPARE = {
    ">=": lambda a, b: a >= b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    "<": lambda a, b: a < b,
}


@dataclass(frozen=True, kw_only=True)
class Condition:
    """A metric compared with a number."""

    text: str
    metric: str
    sign: str
    bound: float
    row: str | None
    """Key of a row; None = the whole sequence of every tokenizer, or every row of pairs."""


def parse(text: str) -> Condition:
    """Errors: ValueError that shows what a condition looks like."""
    match = re.fullmatch(r"(?:(?P<row>.+):)?(?P<metric>\w+)\s*(?P<sign>>=|<=|>|<)\s*(?P<bound>-?[\d.eE+-]+)", text)
    if not match:
        raise ValueError(
            f'condition {text!r} is not understood: write for example "psnr>=20" or "mini/var@14:ssim>0.5"'
        )
    return Condition(
        text=text, metric=match["metric"], sign=match["sign"], bound=float(match["bound"]), row=match["row"]
    )


def failures(result: EvalResult, conditions: Sequence[Condition]) -> list[str]:
    """One line per condition that does not hold; a metric that was not measured holds nothing."""
    failed = []
    for condition in conditions:
        rows = [r for r in result.rows if r.key == condition.row] if condition.row else _main_rows(result)
        if not rows:
            failed.append(f"{condition.text}: there is no row {condition.row}")
        for row in rows:
            value = row.summary.get(condition.metric)
            if value is None or value.value is None:
                failed.append(f"{condition.text}: {row.key} has no {condition.metric}")
            elif not _COMPARE[condition.sign](value.value, condition.bound):
                failed.append(f"{condition.text}: {row.key} has {condition.metric} {value.value:g}")
    return failed


def _main_rows(result: EvalResult) -> list:
    rows = [r for r in result.rows if r.kind != "baseline"]
    whole = {r.subject: max((x.budget or 0) for x in rows if x.subject == r.subject) for r in rows}
    return [r for r in rows if (r.budget or 0) == whole[r.subject]]
