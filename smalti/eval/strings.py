"""Scores of recognized text against known text: edits, CER, WER, NED, F1, and the forms in which means are taken.

Characters are Unicode code points, words are what `str.split()` gives; both sides are compared as they are unless
`normalize` was applied first.
"""

import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

Preset = Literal["raw", "nfkc-casefold-ws", "cjk"]


def normalize(text: str, preset: Preset = "nfkc-casefold-ws") -> str:
    """Text as a preset compares it.

    raw: unchanged; nfkc-casefold-ws: NFKC, case folded, runs of white space to one blank, ends stripped; cjk: the
    same without any white space, for scripts that write none (no word scores there).

    >>> normalize("  Ångström\\n ﬁne ")
    'ångström fine'
    """
    if preset == "raw":
        return text
    if preset not in ("nfkc-casefold-ws", "cjk"):
        raise ValueError(f"text preset {preset!r} is unknown; allowed: raw, nfkc-casefold-ws, cjk")
    words = unicodedata.normalize("NFKC", text).casefold().split()
    return ("" if preset == "cjk" else " ").join(words)


@dataclass(frozen=True, kw_only=True)
class Operations:
    """Fewest edits, at unit cost, that turn a reference into a hypothesis."""

    substitutions: int
    deletions: int
    insertions: int
    hits: int
    """Units that agree."""

    @property
    def edits(self) -> int:
        """Levenshtein distance."""
        return self.substitutions + self.deletions + self.insertions


def character_operations(reference: str, hypothesis: str) -> Operations:
    """Edits between the characters, white space included."""
    jiwer = _jiwer()
    plain = jiwer.Compose([jiwer.ReduceToListOfListOfChars()])  # jiwer's default would strip the ends
    found = jiwer.process_characters(reference, hypothesis, plain, plain)
    return _operations(found)


def word_operations(reference: str, hypothesis: str) -> Operations:
    """Edits between the words, at any white space (jiwer alone splits at blanks only)."""
    found = _jiwer().process_words(" ".join(reference.split()), " ".join(hypothesis.split()))
    return _operations(found)


@dataclass(frozen=True, kw_only=True)
class StringScore:
    """One recognized text against its known one.

    Rates of an empty reference are 0 if nothing was recognized, else 1.
    """

    char_edits: int
    word_edits: int
    ref_chars: int
    hyp_chars: int
    ref_words: int
    hyp_words: int
    cer: float
    """Character edits over reference characters; may exceed 1."""
    wer: float
    """Word edits over reference words; may exceed 1."""
    ned: float
    """Character edits over the longer of both (ICDAR); never exceeds 1."""
    exact: bool
    exact_caseless: bool
    """Equal in lower case."""
    lcs: int
    """Length of the longest common subsequence of characters."""
    char_f1: float
    """2 lcs / (reference + hypothesis characters)."""
    bow_precision: float
    """Share of recognized words that occur in the reference, as bags: the order of reading does not count."""
    bow_recall: float
    bow_f1: float

    @property
    def one_minus_ned(self) -> float:
        """Similarity in [0, 1]."""
        return 1 - self.ned

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self) | {"one_minus_ned": self.one_minus_ned}


def score(reference: str, hypothesis: str) -> StringScore:
    """All scores of one pair, as they are: normalize first."""
    from rapidfuzz.distance import LCSseq

    chars, words = character_operations(reference, hypothesis), word_operations(reference, hypothesis)
    ref_words, hyp_words = reference.split(), hypothesis.split()
    lcs = LCSseq.similarity(reference, hypothesis)
    common = (Counter(ref_words) & Counter(hyp_words)).total()
    precision, recall = _share(common, len(hyp_words), len(ref_words)), _share(common, len(ref_words), len(hyp_words))
    longer = max(len(reference), len(hypothesis))
    return StringScore(
        char_edits=chars.edits,
        word_edits=words.edits,
        ref_chars=len(reference),
        hyp_chars=len(hypothesis),
        ref_words=len(ref_words),
        hyp_words=len(hyp_words),
        cer=_rate(chars.edits, len(reference)),
        wer=_rate(words.edits, len(ref_words)),
        ned=chars.edits / longer if longer else 0.0,
        exact=reference == hypothesis,
        exact_caseless=reference.lower() == hypothesis.lower(),
        lcs=int(lcs),
        char_f1=_share(2 * lcs, len(reference) + len(hypothesis), 0),
        bow_precision=precision,
        bow_recall=recall,
        bow_f1=2 * precision * recall / (precision + recall) if precision + recall else 0.0,
    )


@dataclass(frozen=True, kw_only=True)
class TextSummary:
    """Scores of many texts. The corpus form (sum of edits over sum of lengths) is the headline."""

    n: int
    corpus_cer: float
    corpus_wer: float
    mean_cer: float
    mean_wer: float
    mean_one_minus_ned: float
    """What TokBench calls T-NED, and OmniDoc-TokenBench NED."""
    mean_bow_f1: float
    exact_rate: float
    """What TokBench calls T-ACC."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def summarize(scores: Sequence[StringScore]) -> TextSummary:
    """Corpus and mean forms. Errors: ValueError without scores."""
    if not scores:
        raise ValueError("no texts to summarize")
    n = len(scores)
    return TextSummary(
        n=n,
        corpus_cer=_rate(sum(s.char_edits for s in scores), sum(s.ref_chars for s in scores)),
        corpus_wer=_rate(sum(s.word_edits for s in scores), sum(s.ref_words for s in scores)),
        mean_cer=sum(s.cer for s in scores) / n,
        mean_wer=sum(s.wer for s in scores) / n,
        mean_one_minus_ned=sum(s.one_minus_ned for s in scores) / n,
        mean_bow_f1=sum(s.bow_f1 for s in scores) / n,
        exact_rate=sum(s.exact for s in scores) / n,
    )


def vtbench_wer(references: Sequence[str], hypotheses: Sequence[str]) -> float:
    """What VTBench's code calls WER: *character* edits between the joined words, over the number of words.

    Kept to reproduce its numbers (0.68 where the word error rate is 0.42); it is no word error rate.
    """
    edits = words = 0
    for reference, hypothesis in zip(references, hypotheses, strict=True):
        edits += character_operations(" ".join(reference.split()), " ".join(hypothesis.split())).edits
        words += len(reference.split())
    return edits / words if words else 0.0


def _rate(edits: int, length: int) -> float:
    return edits / length if length else float(edits > 0)


def _share(common: int, total: int, other: int) -> float:
    """common / total; of nothing 1 if the other side is empty too, else 0."""
    return common / total if total else float(other == 0)


def _operations(found: Any) -> Operations:
    return Operations(
        substitutions=found.substitutions, deletions=found.deletions, insertions=found.insertions, hits=found.hits
    )


def _jiwer() -> Any:
    from smalti.eval.weights import installed

    installed("jiwer")
    import jiwer

    return jiwer
