"""Smooth background of a scanned page, fitted robustly to its paper."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bruno.validation import check_whole

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

_FITTED_PIXELS = 40_000  # the background has 6 coefficients, so a grid of pixels is enough
_FIT_ROUNDS = 10
# Median of |x| of a standard normal, inverted, and its first quartile.
_NORMAL_MAD, _NORMAL_QUARTER = 1.4826, 0.3186


def fit_background(page: Floats, degree: int) -> tuple[Floats, float]:
    """Fit a polynomial of row and column to the paper, leaving out ink as outliers.

    Args:
        page: Grey levels ``(H, W)``.
        degree: Total degree of the polynomial.

    Returns:
        The background ``(H, W)``, and the standard deviation of the paper around it (from the
        median absolute residual).

    Raises:
        UserError: If the degree is negative or no whole number.
    """
    check_whole("degree", degree, 0)
    height, width = page.shape
    step = max(1, int(np.sqrt(page.size / _FITTED_PIXELS)))
    rows, columns = np.linspace(-1, 1, height), np.linspace(-1, 1, width)
    powers = [(i, j) for i in range(degree + 1) for j in range(degree + 1 - i)]
    grid_rows, grid_columns = rows[::step, None], columns[None, ::step]
    basis = np.stack([(grid_rows**i * grid_columns**j).ravel() for i, j in powers], axis=1)
    levels = page[::step, ::step].ravel()
    # Least trimmed squares: paper is the half of the pixels that a smooth surface explains best.
    # Three starts, because a fit to all pixels can settle between paper and broad ink.
    middle = np.median(levels)
    fits = [
        _trimmed_fit(basis, levels, start)
        for start in (np.isfinite(levels), levels >= middle, levels <= middle)
    ]
    coefficients, spread = min(fits, key=lambda fit: fit[1])
    for _ in range(_FIT_ROUNDS):
        residuals = np.abs(levels - basis @ coefficients)
        is_paper = residuals < max(2.5 * spread, 2.0)
        coefficients = _least_squares(basis[is_paper], levels[is_paper])
        spread = _NORMAL_MAD * float(np.median(np.abs(levels - basis @ coefficients)[is_paper]))
    background = np.zeros_like(page)
    for (i, j), coefficient in zip(powers, coefficients, strict=True):
        background += coefficient * rows[:, None] ** i * columns[None, :] ** j
    return background, spread


def _least_squares(basis: Floats, levels: Floats) -> Floats:
    return np.asarray(np.linalg.lstsq(basis, levels, rcond=None)[0], dtype=np.float64)


def _trimmed_fit(basis: Floats, levels: Floats, is_paper: Mask) -> tuple[Floats, float]:
    """Return coefficients that explain half of the levels best, and the spread around them.

    Concentration steps of Rousseeuw & Van Driessen (2006): fit, then keep the half with the
    smallest residuals.
    """
    for _ in range(_FIT_ROUNDS):
        coefficients = _least_squares(basis[is_paper], levels[is_paper])
        residuals = np.abs(levels - basis @ coefficients)
        is_paper = residuals <= np.median(residuals)
    # The median of all residuals is that of a normal only if there is no ink; ink makes it larger,
    # so the standard deviation is taken from the quarter.
    return coefficients, float(np.quantile(residuals, 0.25)) / _NORMAL_QUARTER
