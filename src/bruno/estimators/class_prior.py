"""Prior probabilities of classes, from the parameter ``class_prior``."""

from __future__ import annotations

from typing import Any

import numpy as np

from bruno.errors import UserError
from bruno.validation import check_choice


def check_prior(class_prior: Any) -> None:
    """Raise if a class prior is invalid for any number of classes.

    Raises:
        UserError: If it is neither a known name nor probabilities.
    """
    if isinstance(class_prior, str):
        check_choice("class_prior", class_prior, ("uniform", "empirical"))
    else:
        _as_probabilities(class_prior)


def log_prior(class_prior: Any, count: np.ndarray) -> np.ndarray:
    """Return the logarithms of the prior, ``(K,)``, by how many examples were seen of each class.

    Args:
        class_prior: ``uniform``, ``empirical`` or probabilities.
        count: Number of examples of every class, ``(K,)``.

    Raises:
        UserError: If the prior is invalid, or one of other than K classes.
    """
    check_prior(class_prior)
    if not isinstance(class_prior, str):
        prior = _as_probabilities(class_prior)
        if len(prior) != len(count):
            raise UserError(
                f"class_prior: expected {len(count)} probabilities, one for each class, got "
                f"{len(prior)}"
            )
        log_prior: np.ndarray = np.log(prior)
        return log_prior
    if class_prior == "uniform":
        return np.full(len(count), -np.log(len(count)))
    # A class without examples is as likely as one with half an example.
    count = np.maximum(count, 0.5)
    log_share: np.ndarray = np.log(count / count.sum())
    return log_share


def _as_probabilities(class_prior: Any) -> np.ndarray:
    try:
        prior = np.asarray(class_prior, dtype=np.float64)
    except (TypeError, ValueError):
        prior = np.empty(())
    if prior.ndim != 1 or not (prior > 0).all() or not np.isclose(prior.sum(), 1):
        raise UserError(
            "class_prior: expected 'uniform', 'empirical' or positive probabilities that sum "
            f"to 1, got {class_prior!r}"
        )
    return prior
