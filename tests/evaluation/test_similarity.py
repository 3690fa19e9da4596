import numpy as np
import pytest
import torch
from scipy import ndimage

from bruno.evaluation.similarity import structural_similarity
from bruno.seeding import generator_for


def by_windows(x, y, window):
    """The definition, one window after the other."""
    values = []
    for top in range(x.shape[0] - window + 1):
        for left in range(x.shape[1] - window + 1):
            a, b = (p[top : top + window, left : left + window].ravel() for p in (x, y))
            covariance = np.mean((a - a.mean()) * (b - b.mean()))
            luminance = (2 * a.mean() * b.mean() + 1e-4) / (a.mean() ** 2 + b.mean() ** 2 + 1e-4)
            values.append(luminance * (2 * covariance + 9e-4) / (a.var() + b.var() + 9e-4))
    return np.mean(values)


@pytest.mark.parametrize("window", [3, 7])
def test_it_is_the_mean_over_windows_and_channels(window):
    x = torch.rand(3, 2, 9, 11, generator=generator_for(0), dtype=torch.float64)
    blurred = torch.from_numpy(ndimage.gaussian_filter(x.numpy(), (0, 0, 1, 1)))
    found = structural_similarity(x, blurred, window)
    for one, other, value in zip(x.numpy(), blurred.numpy(), found, strict=True):
        channels = [by_windows(a, b, window) for a, b in zip(one, other, strict=True)]
        assert float(value) == pytest.approx(np.mean(channels), abs=1e-9)


def test_equal_pictures_are_fully_similar_and_noise_is_not():
    x, y = torch.rand(2, 4, 1, 28, 28, generator=generator_for(1)).unbind(0)
    torch.testing.assert_close(structural_similarity(x, x), torch.ones(4).double())
    assert float(structural_similarity(x, y).max()) < 0.2
