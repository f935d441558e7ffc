"""Validation and sample sheets during a run, for any tokenizer and any generator.

Shape suffixes: B batch, H W pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from smalti.data.bank import ImageBank
from smalti.data.counter import generator_at
from smalti.data.tokens_bank import TokenBank
from smalti.images import enlarge, image_grid, write_image
from smalti.nn.perceptual import lpips_of
from smalti.pipeline import ImageGenerator
from smalti.tokenizers.base import Tokenizer
from smalti.tokens import Tokens

PROMPTS = (
    "red apple",
    "red apple, noto style",
    "red apple, twemoji style",
    "red apple, fluent style",
    "grinning face with big eyes",
    "cat face",
    "blue heart",
    "flag of France",
    "rocket",
    "slice of pizza",
    "guitar",
    "palm tree",
    "police car",
    "woman astronaut",
    "snowman",
    "house with garden",
)


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """float [B]: peak signal-to-noise ratio in dB of images in [0, 1]; 100 for equal ones."""
    return -10 * (a - b).square().flatten(1).mean(1).clamp_min(1e-10).log10()


def budgets_of(tokenizer: Tokenizer) -> tuple[int, ...]:
    """Every legal prefix, or the powers of two among them and the whole where there are many."""
    prefixes = tokenizer.layout().prefixes
    return prefixes if len(prefixes) <= 12 else tuple(k for k in prefixes if k & (k - 1) == 0 or k == prefixes[-1])


@dataclass(kw_only=True)
class TokenizerMonitor:
    """Reconstructions of held-out images at every budget."""

    tokenizer: Tokenizer
    bank: ImageBank
    out: Path
    perceptual: nn.Module | None = None
    limit: int = 256
    """Held-out images per source."""
    batch: int = 64

    def __call__(self, step: int) -> dict[str, float]:
        """PSNR per source and budget (emoji), LPIPS, and the share of the codebook that held-out images use."""
        values: dict[str, float] = {}
        used: list[Tensor] = []
        for source in ("emoji", "photos", "text"):
            indices = spread(self.bank.indices(source, "heldout"), self.limit)
            if len(indices):
                values |= self._score(source, indices, used)
        if used:
            vocab = self.tokenizer.layout().segments[0].vocab or 1
            values["usage"] = len(torch.cat(used).unique()) / vocab
        self.sheet(step)
        return values

    def _score(self, source: str, indices: Tensor, used: list[Tensor]) -> dict[str, float]:
        prefixes = budgets_of(self.tokenizer)
        budgets = prefixes if source == "emoji" else prefixes[-1:]
        scores: dict[str, list[Tensor]] = {}
        for images in self.bank.batches(indices, self.batch):
            tokens = self.tokenizer.encode(images)
            used.append(tokens.ids.unique() if tokens.ids is not None else torch.empty(0))
            for k in budgets:
                made = self._decode(tokens, k, images)
                scores.setdefault(f"{source}_psnr_{k}", []).append(psnr(made, images))
                if self.perceptual is not None and k == budgets[-1]:
                    scores.setdefault(f"{source}_lpips", []).append(lpips_of(self.perceptual, made, images))
        return {name: float(torch.cat(parts).mean()) for name, parts in scores.items()}

    def _decode(self, tokens: Tokens, k: int, like: Tensor) -> Tensor:
        """What `k` tokens decode to, at the size of the source images."""
        return enlarge(self.tokenizer.decode(tokens.prefix(k)), (like.shape[-2], like.shape[-1]))

    def sheet(self, step: int) -> None:
        """One row per image: the original, then its reconstruction at every budget."""
        chosen = [spread(self.bank.indices(s, "heldout"), n) for s, n in (("emoji", 9), ("photos", 4), ("text", 3))]
        images = self.bank.exact(torch.cat(chosen))
        if not len(images):
            return
        tokens = self.tokenizer.encode(images)
        prefixes = budgets_of(self.tokenizer)
        shown = [images, *(self._decode(tokens, k, images) for k in prefixes)]
        rows = torch.stack(shown, dim=1).flatten(0, 1)
        save_sheet(rows, len(shown), self.out / "sheets" / f"step-{step:07d}.png")


@dataclass(kw_only=True)
class GeneratorMonitor:
    """Loss on withheld drawings, and pictures for fixed prompts and classes."""

    objective: nn.Module
    pipeline: ImageGenerator
    tokens: TokenBank
    out: Path
    drafter: ImageGenerator | None = None
    """For a refiner: who makes the scales before `handover`."""
    handover: int | None = None
    limit: int = 256
    """Images per split."""
    batch: int = 64

    def __call__(self, step: int) -> dict[str, float]:
        """Cross entropy of (code point, artist) pairs that are withheld, of unseen code points, and of seen images."""
        values: dict[str, float] = {}
        for split in ("train", "pair", "unseen"):
            sums: dict[str, list[float]] = {}
            for ids, condition in self.tokens.heldout(split, self.batch, self.limit):
                rng = generator_at(0, "validation", device=ids.device)
                losses = self.objective((ids, condition), step, rng)
                for name, value in losses.parts.items():
                    sums.setdefault(name, []).append(float(value) * len(ids))
                sums.setdefault("", []).append(len(ids))
            count = sum(sums.pop("", [0.0]))
            values |= {f"{split}_{name}": sum(v) / count for name, v in sums.items()}
        self.sheet(step)
        return values

    def sheet(self, step: int) -> None:
        """Two samples per prompt, and one per class for 32 classes."""
        pipeline, handed = self.pipeline, {}
        if self.drafter is not None:
            pipeline, handed = self.drafter, {"then": self.pipeline, "handover": self.handover}
        folder = self.out / "sheets"
        if pipeline.text_encoder is not None:
            known = understood(pipeline, PROMPTS)
            images = pipeline.generate(text=known, n=2, seed=0, **handed).images
            save_sheet(images, 8, folder / f"prompts-{step:07d}.png")
        if pipeline.classes:
            classes = spread(torch.arange(len(pipeline.classes)), 32).tolist()
            images = pipeline.generate(classes=classes, seed=0, **handed).images
            save_sheet(images, 8, folder / f"classes-{step:07d}.png")


def understood(pipeline: ImageGenerator, prompts: Sequence[str]) -> list[str]:
    """The prompts that the text encoder knows a word of."""
    known = []
    for prompt in prompts:
        try:
            pipeline.condition(text=[prompt])
        except ValueError:
            continue
        known.append(prompt)
    return known


def spread(indices: Tensor, count: int) -> Tensor:
    """At most `count` of the indices, evenly spread."""
    if len(indices) <= count:
        return indices
    return indices[torch.arange(count) * len(indices) // count]


def save_sheet(images: Tensor, columns: int, path: Path) -> None:
    """Writes images [B, 3, H, W] as one PNG grid."""
    sheet = image_grid(images.float().cpu(), min(columns, len(images)))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(sheet, path)
