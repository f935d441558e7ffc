"""Proves that edits, CER, WER, NED, F1 and their corpus forms have the reference values, in every `metrics/strings`
folder below the golden roots."""

from pathlib import Path

import pytest

from smalti.eval.strings import normalize, score, summarize, vtbench_wer, word_operations
from tests.eval.account import Account, parts, require

SAME_NAME = (
    *(
        "char_edits",
        "word_edits",
        "ref_chars",
        "hyp_chars",
        "ref_words",
        "hyp_words",
        "cer",
        "wer",
        "one_minus_ned",
        "exact",
    ),
    *("exact_caseless", "lcs", "bow_precision", "bow_recall", "bow_f1"),
)
OTHER_NAME = {"ned_icdar": "ned", "char_F1_lcs": "char_f1"}


@pytest.fixture(params=require(parts("strings")), scope="module")
def account(request: pytest.FixtureRequest) -> Account:
    """The account of one folder."""
    folder: Path | None = request.param
    assert folder is not None, "no golden strings were found"
    return Account(folder)


def test_every_value(account: Account) -> None:
    """Pair by pair, then the totals; integers exactly, rates to 1e-12, float32 references to 1e-6."""
    pairs = account.values["pairs"]
    for i, pair in enumerate(pairs):
        _pair(account, f"pairs/{i}", pair)
    references, hypotheses = [p["ref"] for p in pairs], [p["hyp"] for p in pairs]
    total = summarize([score(p["ref"], p["hyp"]) for p in pairs])
    for name, ours in (
        ("corpus_cer.*", total.corpus_cer),
        ("corpus_wer.*", total.corpus_wer),
        ("mean_cer", total.mean_cer),
        ("mean_wer", total.mean_wer),
        ("mean_one_minus_ned.*", total.mean_one_minus_ned),
        ("exact_match_rate.*", total.exact_rate),
        ("jiwer.cer.*", total.corpus_cer),
        ("VTBench-code.*", vtbench_wer(references, hypotheses)),
    ):
        account.compare(account.one(f"totals/{name}"), ours, atol=1e-12)
    account.compare(account.one("totals/torchmetrics cer.*"), total.corpus_cer, atol=1e-6)
    account.compare(account.one("totals/torchmetrics wer.*"), total.corpus_wer, atol=1e-6)
    account.ignore("totals/jiwer.wer.*", "jiwer splits words at blanks only; one pair has a line break")
    account.ignore("versions/.*", "of other libraries")
    account.settle()


def _pair(account: Account, path: str, pair: dict) -> None:
    ours, words = score(pair["ref"], pair["hyp"]), word_operations(pair["ref"], pair["hyp"])
    account.ignore(f"{path}/(ref|hyp)", "the input")
    for name in SAME_NAME:
        account.compare(f"{path}/{name}", getattr(ours, name), atol=1e-12)
    for theirs, name in OTHER_NAME.items():
        account.compare(f"{path}/{theirs}", getattr(ours, name), atol=1e-12)
    account.compare(f"{path}/torchmetrics_cer", ours.cer, atol=1e-6)
    account.compare(f"{path}/torchmetrics_wer", ours.wer, atol=1e-6)
    account.compare(f"{path}/torchmetrics_mer", words.edits / max(ours.ref_words, ours.hyp_words), atol=1e-6)
    account.compare(f"{path}/jiwer_cer", ours.cer, atol=1e-12)
    account.compare(account.one(f"{path}/VTBench_code_wer.*"), vtbench_wer([pair["ref"]], [pair["hyp"]]), atol=1e-12)
    if "\n" in pair["ref"] + pair["hyp"]:
        account.ignore(f"{path}/jiwer_.*", "jiwer splits words at blanks only")
    else:
        account.compare(f"{path}/jiwer_wer", ours.wer, atol=1e-12)
        units = words.hits + words.edits
        account.compare(f"{path}/jiwer_mer", words.edits / units, atol=1e-12)
        counts = [words.substitutions, words.deletions, words.insertions, words.hits]
        account.compare(f"{path}/jiwer_S_D_I_H", counts)
        account.ignore(f"{path}/jiwer_wil", "word information lost is no score of this suite")
    norm = pair["normalised"]
    assert (normalize(pair["ref"]), normalize(pair["hyp"])) == (norm["ref"], norm["hyp"])
    folded = score(norm["ref"], norm["hyp"])
    account.compare(f"{path}/normalised/cer", folded.cer, atol=1e-12)
    account.compare(f"{path}/normalised/wer", folded.wer, atol=1e-12)
    account.ignore(f"{path}/normalised/(rule|ref|hyp)", "checked above; the rule is words")
