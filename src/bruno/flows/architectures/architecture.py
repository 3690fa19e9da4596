"""Architectures: layers as a function of the event shape and of their own sizes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bruno.errors import UserError
from bruno.flows.bijection import Bijection
from bruno.validation import check_whole

EventShape = tuple[int, ...]


@dataclass(frozen=True)
class Architecture:
    """A kind of flow in the registry.

    Attributes:
        layers: Returns the layers of a flow, from data to latent, given the event shape, the size
            of the context that reaches the couplings (0 for none) and the sizes.
        sizes: Frozen dataclass of the size parameters, each made by :func:`size`.
        summary: One line for lists of architectures.
        takes_images: Whether elements may be ``(C, H, W)``.
        takes_vectors: Whether elements may be ``(D,)``.
        takes_context: Whether the flow can be conditional.
        encodes_angles: Whether angles that rotate latent dimensions reach the couplings, too.
    """

    layers: Callable[[EventShape, int, Any], list[Bijection]]
    sizes: type
    summary: str
    takes_images: bool = True
    takes_vectors: bool = False
    takes_context: bool = True
    encodes_angles: bool = False

    def sizes_from(self, name: str, given: Mapping[str, Any]) -> Any:
        """Return the size parameters with some of them replaced.

        Args:
            name: Name of the architecture, for messages.
            given: Replacements by name. A single number stands for equal ones where the default
                is a tuple.

        Raises:
            UserError: If there is no such parameter, or a value is not a whole number in range.
        """
        fields = {field.name: field for field in dataclasses.fields(self.sizes)}
        values: dict[str, Any] = {}
        for key, value in given.items():
            if key not in fields:
                raise UserError(
                    f"{key}: is no size of preset {name!r}, which has {', '.join(fields) or 'none'}"
                )
            values[key] = _checked(key, value, fields[key])
        return self.sizes(**values)


def size(default: Any, least: int = 1) -> Any:
    """Return a dataclass field for a size: a whole number, or a tuple of them.

    Args:
        default: The default; a tuple has one number per resolution.
        least: Smallest value allowed.
    """
    return dataclasses.field(default=default, metadata={"least": least})


def check_divisible(event_shape: EventShape, side: int) -> None:
    """Raise if the height or width of an image is no multiple of ``side``.

    Args:
        event_shape: ``(C, H, W)``.
        side: The divisor of both.

    Raises:
        UserError: With the size that came.
    """
    if any(length % side for length in event_shape[1:]):
        raise UserError(
            f"event_shape: expected a height and width that {side} divides, got {event_shape[1:]}"
        )


def _checked(name: str, value: Any, field: dataclasses.Field[Any]) -> Any:
    least = field.metadata["least"]
    if not isinstance(field.default, tuple):
        check_whole(name, value, least)
        return int(value)
    number = len(field.default)
    several = isinstance(value, Sequence) and not isinstance(value, str)
    values = tuple(value) if several else (value,) * number
    if len(values) != number:
        raise UserError(f"{name}: expected one number or {number}, got {value!r}")
    for one in values:
        check_whole(name, one, least)
    return tuple(map(int, values))
