"""Proves what string scores give at their edges: empty texts, normalization, and rates above one."""

import pytest
import torch

from smalti.eval.classification import class_accuracy
from smalti.eval.strings import character_operations, normalize, score, summarize


def test_empty_texts_have_rates() -> None:
    """Nothing against nothing is right; something against nothing is wrong; neither is infinite."""
    both, wrong, lost = score("", ""), score("", "ab"), score("ab", "")
    assert (both.cer, both.wer, both.ned, both.bow_f1, both.char_f1) == (0, 0, 0, 1, 1)
    assert (wrong.cer, wrong.wer, wrong.ned, wrong.bow_f1) == (1, 1, 1, 0)
    assert (lost.cer, lost.ned, lost.bow_recall) == (1, 1, 0)
    total = summarize([both, wrong, score("abcd", "abcd")])
    assert total.corpus_cer == pytest.approx(2 / 4) and total.mean_cer == pytest.approx(1 / 3)
    with pytest.raises(ValueError, match="no texts"):
        summarize([])


def test_rates_may_exceed_one_but_ned_may_not() -> None:
    """A hypothesis much longer than its reference."""
    assert score("a", "bcdef").cer == 5 and score("a", "bcdef").ned == 1


def test_operations_add_up() -> None:
    """Hits, substitutions and deletions make the reference; white space at the ends counts."""
    found = character_operations(" kitten", "sitting ")
    assert found.hits + found.substitutions + found.deletions == len(" kitten")
    assert found.edits == 5


def test_presets() -> None:
    """Width, ligatures, case and white space fold; for CJK all white space goes."""
    assert normalize("Ｆｕｌｌ \n ﬂow ") == "full flow"
    assert normalize("深度 学习", "cjk") == "深度学习"
    assert normalize(" A ", "raw") == " A "
    with pytest.raises(ValueError, match="'upper'"):
        normalize("a", "upper")  # type: ignore[arg-type]


def test_class_accuracy_counts_class_by_class() -> None:
    """Top-1 and top-5 over all, and each class apart; labels the classifier does not know are refused."""
    logits = torch.eye(8)[torch.tensor([0, 1, 1, 7])] + torch.arange(8) * 1e-3
    found = class_accuracy(logits, torch.tensor([0, 0, 1, 6]))
    assert found.top1 == 0.5 and found.top5 == 0.75
    assert {k: (v.n, v.accuracy) for k, v in found.per_class.items()} == {0: (2, 0.5), 1: (1, 1.0), 6: (1, 0.0)}
    with pytest.raises(ValueError, match=r"0\.\.8, the classifier knows 0\.\.7"):
        class_accuracy(logits, torch.tensor([0, 0, 1, 8]))
