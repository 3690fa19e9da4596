"""The pretrained model that a parameter of an estimator gives."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from bruno.device import resolve_device
from bruno.errors import UserError
from bruno.model import Bruno
from bruno.pretrained import load, process_name


def given_model(model: Any, parameters: dict[str, Any]) -> Bruno | None:
    """Return a copy of a given model, ready for use; None if there is none.

    Args:
        model: A :class:`~bruno.Bruno`, its directory or name, or None.
        parameters: The parameters ``flow``, ``process``, ``marginal_map`` and ``device`` beside it.

    Raises:
        UserError: If it is of a kind that an estimator cannot use, or other parameters
            contradict it.
    """
    if model is None:
        return None
    if isinstance(model, Bruno):
        found = copy.deepcopy(model)
    elif isinstance(model, (str, Path)):
        found = load(model)
    else:
        kind = type(model).__name__
        raise UserError(
            f"model: expected a Bruno, a path, a name or None, got an object of type {kind}"
        )
    if found.flow.context_dim:
        raise UserError("model: expected one that takes no context, got a conditional model")
    if parameters["flow"] is not None:
        raise UserError(
            f"flow: expected None beside a model, which has one, got {parameters['flow']!r}"
        )
    if parameters["process"] not in ("auto", process_name(found.process)):
        raise UserError(
            f"process: expected 'auto' beside a model, which has a "
            f"{type(found.process).__name__}, got {parameters['process']!r}"
        )
    if parameters["marginal_map"] not in ("auto", None):
        raise UserError(
            "marginal_map: expected 'auto' beside a model, which has a flow, got "
            f"{parameters['marginal_map']!r}"
        )
    return found.requires_grad_(False).to(resolve_device(parameters["device"]))
