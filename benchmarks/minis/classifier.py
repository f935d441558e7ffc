"""An independent judge of classes: a small network on features of real emoji, blurred and recolored as well.

Shape suffixes: B batch, N images, D features, K categories, S subcategories.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.minis.features import Features

PROTOCOL = (
    "one hidden layer of 512 on the features, a head for categories and one for subcategories, trained on the real "
    "training emoji (no drawing of a held-out code point), plain and in {judge.versions} copies with blur (sigma 0 to "
    "1.2 px), brightness, contrast, saturation (x 0.7 to 1.3) and hue (+-0.04); mean of {judge.judges} such judges, "
    "which differ in start, order, and some of the copies"
)


def augmented(images: Tensor, seed: int) -> Tensor:
    """Blurred and recolored copies of images [N, 3, H, W] in [0, 1], each with its own strengths."""
    from torchvision.transforms import functional as T

    rng = torch.Generator().manual_seed(seed)
    made = []
    for image, draw in zip(images, torch.rand(len(images), 5, generator=rng).tolist(), strict=True):
        if draw[0] > 0.1:
            image = T.gaussian_blur(image, [7, 7], [1.2 * draw[0]])
        image = T.adjust_brightness(image, 0.7 + 0.6 * draw[1])
        image = T.adjust_contrast(image, 0.7 + 0.6 * draw[2])
        image = T.adjust_saturation(image, 0.7 + 0.6 * draw[3])
        made.append(T.adjust_hue(image, 0.08 * draw[4] - 0.04))
    return torch.stack(made).clamp(0, 1)


class Judge(nn.Module):
    """Features to categories and subcategories."""

    mean_D: Tensor
    std_D: Tensor

    def __init__(self, features_ND: Tensor, categories: int, subcategories: int, width: int = 512) -> None:
        super().__init__()
        self.register_buffer("mean_D", features_ND.mean(0))
        self.register_buffer("std_D", features_ND.std(0).clamp_min(1e-3))
        self.trunk = nn.Sequential(nn.Linear(features_ND.shape[1], width), nn.GELU(), nn.Dropout(0.5))
        self.categories, self.subcategories = nn.Linear(width, categories), nn.Linear(width, subcategories)

    def forward(self, features_BD: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [B, K] and [B, S]."""
        hidden = self.trunk((features_BD - self.mean_D) / self.std_D)
        return self.categories(hidden), self.subcategories(hidden)

    @torch.inference_mode()
    def top1(self, features_BD: Tensor) -> tuple[Tensor, Tensor]:
        """Most likely category and subcategory, int64 [B] each."""
        categories, subcategories = self.eval()(features_BD)
        return categories.argmax(1), subcategories.argmax(1)


@dataclass(frozen=True, kw_only=True)
class JudgeTraining:
    """How the judge is trained."""

    judges: int = 3
    """Judges whose agreement is averaged: what one says of reconstructions moves by 2.5 points with its seed."""
    versions: int = 8
    """Augmented copies of every training image, besides the image itself. With 2, accuracy on held-out originals moves
    by 2.4 points between three seeds, with 8 by 1.0."""
    steps: int = 2400
    batch: int = 256
    seed: int = 0


def train_judges(
    images: Tensor, labels_N2: Tensor, counts: tuple[int, int], features: Features, settings: JudgeTraining
) -> list[Judge]:
    """Judges from images [N, 3, H, W] and (category, subcategory) int64 [N, 2]; each begins one copy further on."""
    copies = settings.versions + settings.judges - 1
    plain_ND = features(images)
    versions = [features(augmented(images, settings.seed + 1 + i)) for i in range(copies)]
    judges = []
    for number in range(settings.judges):
        seen = [plain_ND, *versions[number : number + settings.versions]]
        x_ND, y_N2 = torch.cat(seen), labels_N2.repeat(len(seen), 1)
        judges.append(_train(x_ND, y_N2, counts, replace(settings, seed=settings.seed + number)))
    return judges


def _train(x_ND: Tensor, y_N2: Tensor, counts: tuple[int, int], settings: JudgeTraining) -> Judge:
    with torch.random.fork_rng():
        torch.manual_seed(settings.seed)
        judge = Judge(x_ND, *counts).train()
        optimizer = torch.optim.AdamW(judge.parameters(), lr=1e-3, weight_decay=0.05)
        plan = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, settings.steps, pct_start=0.1)
        for _ in range(settings.steps):
            rows = torch.randint(len(x_ND), (settings.batch,))
            categories, subcategories = judge(x_ND[rows])
            loss = F.cross_entropy(categories, y_N2[rows, 0]) + F.cross_entropy(subcategories, y_N2[rows, 1])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            plan.step()
    return judge.eval()
