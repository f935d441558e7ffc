"""A protocol applied to texts: which pairs count, and how they are put together."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

from smalti.eval.protocols.base import Protocol, protocol
from smalti.eval.strings import Preset, StringScore, normalize, score, summarize, vtbench_wer


@dataclass(frozen=True, kw_only=True)
class TextResult:
    """Scores of a set of texts by a protocol."""

    protocol: str
    n: int
    skipped: int
    """Pairs whose reference is empty, where the protocol leaves those out."""
    values: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def text_result(rules: Protocol, references: Sequence[str], hypotheses: Sequence[str]) -> TextResult:
    """Scores of recognized texts against the protocol's kind of reference (known text, or the original's recognition).

    native: corpus CER and WER, mean 1-NED, bag-of-words F1; vtbench: corpus CER and its "WER"; omnidoc: mean 1-NED.
    Errors: ValueError for a protocol without text, or for tokbench-text, whose scores need sizes (`tokbench_result`).
    """
    if rules.text is None or rules.name == "tokbench-text":
        raise ValueError(f"protocol {rules.label} has no scores of whole texts")
    preset: Preset = rules.text["normalize"]
    pairs = [(normalize(r, preset), normalize(h, preset)) for r, h in zip(references, hypotheses, strict=True)]
    kept = [pair for pair in pairs if pair[0] or rules.text.get("empty_truth") != "skipped"]
    total = summarize([score(*pair) for pair in kept])
    if rules.name == "vtbench":
        wer = vtbench_wer([r for r, _ in kept], [h for _, h in kept])
        values = {"cer": total.corpus_cer, "wer": wer}
    elif rules.name == "omnidoc":
        values = {"one_minus_ned": total.mean_one_minus_ned}
    else:
        values = {
            "cer": total.corpus_cer,
            "wer": total.corpus_wer,
            "one_minus_ned": total.mean_one_minus_ned,
            "bow_f1": total.mean_bow_f1,
        }
    return TextResult(protocol=rules.label, n=len(kept), skipped=len(pairs) - len(kept), values=values)


def tokbench_result(words: Sequence[StringScore], ratios: Sequence[float], size: int) -> TextResult:
    """T-ACC and T-NED of single words, binned by their size relative to the image; the mean over bins is the score.

    `ratios`: size of every word as TokBench gives it; `size`: 256, 512 or 1024 pixels. Words outside all bins are
    counted as skipped; a bin without words makes the means of the others. Errors: ValueError for another size.
    """
    rules = protocol("tokbench-text")
    assert rules.text is not None
    edges = rules.text["bins"].get(size)
    if edges is None:
        raise ValueError(f"TokBench has bins for {', '.join(map(str, rules.text['bins']))} pixels, got {size}")
    values: dict[str, float] = {}
    accuracies, neds, kept = [], [], 0
    for low, high in pairwise(edges):
        inside = [w for w, ratio in zip(words, ratios, strict=True) if low <= ratio < high]
        kept += len(inside)
        if not inside:
            continue
        total = summarize(inside)
        accuracies.append(total.exact_rate)
        neds.append(total.mean_one_minus_ned)
        values[f"t_acc {low}-{high}"], values[f"t_ned {low}-{high}"] = accuracies[-1], neds[-1]
    if not kept:
        raise ValueError("no word lies in a bin")
    values["t_acc"], values["t_ned"] = sum(accuracies) / len(accuracies), sum(neds) / len(neds)
    return TextResult(protocol=rules.label, n=kept, skipped=len(words) - kept, values=values)
