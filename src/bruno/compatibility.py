"""Names in files that earlier versions wrote, as they are today."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_PRESETS = {"linear": "affine", "affine": "diagonal"}
"""Today's names of flow presets of format version 1."""

_EXPERIMENT: dict[str, dict[str, str | None]] = {
    "data": {
        "also": None,
        "labels": "context_file",
        "learn_val": "train_on_val",
        "redrawings": "offline_augmentations",
        "skip_bad": "skip_unreadable",
        "unlabelled": "drop_context",
    },
    "model": {"correlations": "initial_correlation_range"},
    "training": {"average_decay": "ema_decay"},
}
"""For every part of an experiment, today's name of each old field; ``None`` where it is gone."""

_SCALES = {"columns": "per_feature", "common": "global"}
"""Today's names of scales of estimators of format version 1."""

_FIGURES = {
    "area": "auroc",
    "gain": "conditioning_gain",
    "nats": "nll",
    "planted": "n_anomalies",
    "precision": "average_precision",
    "strangers": "contaminants",
    "temperature": "latent_scale",
    "unconditional_nats": "unconditional_nll",
}
"""Today's names of figures, in cards, training logs and evaluations."""


def current_experiment(experiment: Mapping[str, Any]) -> dict[str, Any]:
    """Return a saved experiment with the field names of this version.

    Args:
        experiment: Nested dictionaries, as saved beside a model.

    Example:
        >>> current_experiment({"data": {"skip_bad": True, "also": None}, "seed": 0})
        {'data': {'skip_unreadable': True}, 'seed': 0}
    """
    current = dict(experiment)
    for part, names in _EXPERIMENT.items():
        fields = current.get(part)
        if isinstance(fields, Mapping):
            renamed = {names.get(name, name): value for name, value in fields.items()}
            current[part] = {name: value for name, value in renamed.items() if name is not None}
    return current


def current_flow(flow: Mapping[str, Any], format_version: int) -> dict[str, Any]:
    """Return the saved configuration of a flow with the preset names of this version.

    Args:
        flow: Keyword arguments of :class:`~bruno.RealNVP`, as saved.
        format_version: Version of the format of the file; in version 1 ``linear`` was the full
            and ``affine`` the diagonal affine map.

    Returns:
        Keyword arguments of :class:`~bruno.RealNVP`.

    Example:
        >>> current_flow({"event_shape": [4], "preset": "affine"}, 1)
        {'event_shape': [4], 'preset': 'diagonal'}
    """
    current = dict(flow)
    if format_version == 1 and "preset" in current:
        current["preset"] = _renamed(current["preset"], _PRESETS)
    return current


def current_estimator(
    parameters: Mapping[str, Any], state: Mapping[str, Any], format_version: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a saved estimator with the names of this version.

    Args:
        parameters: Arguments of its constructor, as saved.
        state: Its fitted attributes, as saved.
        format_version: Version of the format of the file.

    Returns:
        Parameters and state.
    """
    current, fitted = dict(parameters), dict(state)
    if format_version == 1:
        for saved, suffix in ((current, ""), (fitted, "_")):
            for attribute, names in (("flow", _PRESETS), ("scale", _SCALES)):
                if attribute + suffix in saved:
                    saved[attribute + suffix] = _renamed(saved[attribute + suffix], names)
        if "reject" in current:
            current["unknown_prior"] = current.pop("reject")
    return current, fitted


def current_figures(figures: Any) -> Any:
    """Return saved figures with the names of this version.

    Args:
        figures: Dictionaries and lists, as in the card of a model, a training log or an evaluation.

    Returns:
        The same, with current keys.

    Example:
        >>> current_figures({"nats": {"mean": 1.0}, "views": [{"given": 1, "gain": 2.0}]})
        {'nll': {'mean': 1.0}, 'views': [{'given': 1, 'conditioning_gain': 2.0}]}
    """
    if isinstance(figures, Mapping):
        return {_FIGURES.get(key, key): current_figures(value) for key, value in figures.items()}
    if isinstance(figures, list):
        return [current_figures(value) for value in figures]
    return figures


def _renamed(value: Any, names: Mapping[str, str]) -> Any:
    """Return the current name of a value, if it is one that was renamed."""
    return names.get(value, value) if isinstance(value, str) else value
