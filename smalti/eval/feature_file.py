"""Features of many images in a file: written as they come, read without loading, continued after a kill.

KID, precision and recall need every feature, and 50,000 rows of 2048 are 400 MB. Shape suffixes: N images, D features.
"""

import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor


class FeatureFile:
    """Rows float32 [N, D], appended; the file is nothing but the numbers, little-endian.

    A row cut off by a kill is dropped on opening, and `cut` drops rows that a run's own record does not know of.
    """

    def __init__(self, path: str | Path, dim: int) -> None:
        """Opens or creates the file of features of width `dim`."""
        self.path, self.dim = Path(path), dim
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.touch()
        self.cut(self.path.stat().st_size // (4 * dim))

    def __len__(self) -> int:
        return self.path.stat().st_size // (4 * self.dim)

    def cut(self, rows: int) -> None:
        """Keeps the first `rows` rows. Errors: ValueError if there are fewer."""
        size = rows * 4 * self.dim
        if size > self.path.stat().st_size:
            raise ValueError(
                f"{self.path} holds {len(self)} rows of {self.dim} features, {rows} are expected: delete it"
            )
        os.truncate(self.path, size)

    def append(self, features_ND: Tensor) -> None:
        """Adds rows and waits until they are on the disk. Errors: ValueError for another width, NaN or infinity."""
        if features_ND.ndim != 2 or features_ND.shape[1] != self.dim or not features_ND.isfinite().all():
            raise ValueError(f"needed are finite features [N, {self.dim}], got {list(features_ND.shape)}")
        with self.path.open("ab") as file:
            file.write(features_ND.detach().cpu().numpy().astype("<f4").tobytes())
            file.flush()
            os.fsync(file.fileno())

    def features(self) -> Tensor:
        """All rows, float32 [N, D], mapped from the file (a change to them does not reach it)."""
        if not len(self):
            return torch.empty(0, self.dim)
        return torch.from_numpy(np.memmap(self.path, "<f4", mode="c", shape=(len(self), self.dim)))
