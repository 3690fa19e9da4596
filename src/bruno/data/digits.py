"""Digits: the 1797 handwritten digits of 8 x 8 pixels that come with scikit-learn."""

import numpy as np
import torch

from bruno.data.dataset import SPLITS, LabelledImages, check_split
from bruno.seeding import generator_for

CLASS_NAMES = tuple(str(digit) for digit in range(10))
SHARES = {"train": 0.7, "val": 0.1, "test": 0.2}
_SPLIT_SEED = 0


def load_digits(split: str) -> LabelledImages:
    """Load one split; every digit is split 70 / 10 / 20, the same way every time.

    Args:
        split: ``"train"``, ``"val"`` or ``"test"``.

    Returns:
        Images uint8 ``(N, 1, 8, 8)``, ink 255 on 0, ordered by digit.

    Raises:
        UserError: If the split is unknown.
    """
    # scikit-learn takes seconds to import, which nobody should wait for who asks for other data.
    from sklearn.datasets import load_digits as load_sklearn_digits

    check_split("digits", split, SPLITS)
    pixels, target = load_sklearn_digits(return_X_y=True)
    images = torch.from_numpy(np.rint(pixels * (255 / 16)).astype(np.uint8)).view(-1, 1, 8, 8)
    labels = torch.from_numpy(target.astype(np.int64))
    chosen = torch.cat([_share(split, torch.nonzero(labels == k).flatten(), k) for k in range(10)])
    return LabelledImages(
        images=images[chosen],
        labels=labels[chosen],
        class_names=CLASS_NAMES,
        name="digits",
        split=split,
    )


def _share(split: str, indices: torch.Tensor, digit: int) -> torch.Tensor:
    generator = generator_for(_SPLIT_SEED, digit)
    order = torch.randperm(len(indices), generator=generator, device=generator.device)
    train_end = round(SHARES["train"] * len(indices))
    val_end = train_end + round(SHARES["val"] * len(indices))
    bounds = {"train": (0, train_end), "val": (train_end, val_end), "test": (val_end, len(indices))}
    first, last = bounds[split]
    return indices[order[first:last]]
