"""Structural similarity of pictures."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import avg_pool2d

from bruno.errors import UserError
from bruno.validation import check_tensor, check_whole

# Constants of the paper, for a range of 1.
_C1, _C2 = 0.01**2, 0.03**2


def structural_similarity(x: Tensor, y: Tensor, window: int = 7) -> Tensor:
    """Return the structural similarity of pictures (Wang et al., IEEE TIP 2004, eq. 13).

    Means, variances and covariances are those of uniform windows; all windows inside a picture
    count, and all channels.

    Args:
        x: Pictures with values in [0, 1], ``(B, C, H, W)``.
        y: Pictures of the same shape.
        window: Side of the windows, in pixels.

    Returns:
        Shape ``(B,)``, float64; 1 for equal pictures.

    Raises:
        UserError: If the shapes differ, or a window does not fit.

    Example:
        >>> import torch
        >>> picture = torch.rand(2, 1, 8, 8)
        >>> structural_similarity(picture, picture).round(decimals=6)
        tensor([1., 1.], dtype=torch.float64)
    """
    check_tensor("x", x)
    check_tensor("y", y)
    if x.ndim != 4 or x.shape != y.shape:
        raise UserError(
            f"y: expected pictures (B, C, H, W) as in x, got {tuple(x.shape)} and {tuple(y.shape)}"
        )
    check_whole("window", window, 1)
    if window > min(x.shape[-2:]):
        raise UserError(f"window: expected at most {min(x.shape[-2:])} pixels, got {window}")
    x, y = x.double(), y.double()

    def mean(values: Tensor) -> Tensor:
        return avg_pool2d(values, window, stride=1)

    mean_x, mean_y = mean(x), mean(y)
    variances = mean(x * x) - mean_x.square() + mean(y * y) - mean_y.square()
    covariance = mean(x * y) - mean_x * mean_y
    numerator = (2 * mean_x * mean_y + _C1) * (2 * covariance + _C2)
    denominator = (mean_x.square() + mean_y.square() + _C1) * (variances + _C2)
    return (numerator / denominator).mean((1, 2, 3))
