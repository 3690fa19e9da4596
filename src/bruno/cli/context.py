"""Context features on the command line: ``azimuth=45``, or several values, ``azimuth=0,90``."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bruno.data.context import ContextFeature, encode_context
from bruno.errors import UserError


def parse_context(
    option: str, given: Sequence[str] | None, features: Sequence[ContextFeature], context_dim: int
) -> Tensor | None:
    """Return the context that ``NAME=VALUE`` arguments give, ``(values, context_dim)``.

    Args:
        option: Name of the option, for errors.
        given: The arguments; several values of a feature are separated by commas, and features with
            one value keep it for all values of the others.
        features: Context features of the model.
        context_dim: Size of its context.

    Returns:
        The context, or ``None`` for a model that takes none.

    Raises:
        UserError: If the model needs a feature that is not given, or the reverse.
    """
    if not context_dim:
        if given:
            raise UserError(f"{option}: this model takes no context, got {' '.join(given)}")
        return None
    if not features:
        raise UserError(f"{option}: the saved model does not name its context features")
    given = given or ()
    form = " ".join(f"{feature.name}=NUMBER" for feature in features)
    values = {}
    for argument in given:
        name, _, text = argument.partition("=")
        if name in values:
            raise UserError(
                f"{option}: expected one {name}=NUMBER, got two; several values are separated by "
                f"commas, as in {name}=0,90"
            )
        try:
            values[name] = torch.tensor(
                [float(part) for part in text.split(",")], device="cpu", dtype=torch.float64
            )
        except ValueError:
            raise UserError(f"{option}: expected {form}, got {argument!r}") from None
    if sorted(values) != sorted(feature.name for feature in features):
        raise UserError(f"{option}: expected {form}, got {' '.join(given) or 'nothing'}")
    if len({len(value) for value in values.values()} - {1}) > 1:
        raise UserError(
            f"{option}: expected as many values of every feature, got {' '.join(given)}"
        )
    return encode_context(features, values).reshape(-1, context_dim)
