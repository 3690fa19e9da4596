"""Elements as requests describe them: an image file, pen strokes, or a vector."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, FiniteFloat, model_validator

from bruno.serving.schemas.fields import CROSS, Body

MOST_EXAMPLES = 64
"""Elements of one request."""

_MOST_STROKES, _MOST_POINTS = 256, 4096
_FURTHEST = 1e6
_PLUS = (
    "iVBORw0KGgoAAAANSUhEUgAAABwAAAAcCAAAAABXZoBIAAAAIklEQVR42mNgGNzg/39kHhM+pcNIkhHid+zi"
    "TCMk+AYdAABtjwUccbPPXAAAAABJRU5ErkJggg=="
)


def _near(value: float) -> float:
    if abs(value) > _FURTHEST:
        raise ValueError(f"expected a number from -{_FURTHEST:g} to {_FURTHEST:g}")
    return value


Coordinate = Annotated[FiniteFloat, AfterValidator(_near)]


class ElementFields(Body):
    """The element of a body, if there is one: an image, strokes or a vector."""

    image: str | None = Field(
        None,
        min_length=1,
        description="A PNG, JPEG, WebP, GIF, BMP or TIFF file in base64, or as a data URL.",
    )
    strokes: (
        Annotated[
            list[Annotated[list[tuple[Coordinate, Coordinate]], Field(max_length=_MOST_POINTS)]],
            Field(min_length=1, max_length=_MOST_STROKES),
        ]
        | None
    ) = Field(None, description="Pen strokes: points (x, y) of each, y downwards, in any unit.")
    vector: Annotated[list[FiniteFloat], Field(min_length=1, max_length=2**16)] | None = Field(
        None, description="Numbers, for a model of vectors."
    )
    prepare: Literal["auto", "scan", "none"] = Field(
        "auto",
        description="scan prepares an image as a scan of handwriting; none only scales it; auto "
        "prepares it if the model is of handwriting and invert is false.",
    )
    invert: bool = Field(
        False, description="Turn dark ink on white paper into bright ink on black."
    )

    def check_element(self) -> None:
        """Raise unless exactly one of image, strokes and vector is given, and not too long.

        Raises:
            ValueError: With what was expected.
        """
        given = [self.image, self.strokes, self.vector]
        if sum(one is not None for one in given) != 1:
            raise ValueError("expected exactly one of image, strokes and vector")
        if sum(map(len, self.strokes or [])) > _MOST_POINTS:
            raise ValueError(f"expected at most {_MOST_POINTS} points in all strokes")

    @property
    def is_given(self) -> bool:
        """Whether there is an element."""
        return (self.image, self.strokes, self.vector) != (None, None, None)


class ElementInput(ElementFields):
    """One element: exactly one of ``image``, ``strokes`` and ``vector``."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"strokes": CROSS}, {"image": _PLUS, "prepare": "none"}]}
    )

    @model_validator(mode="after")
    def _has_one(self) -> Self:
        self.check_element()
        return self


Elements = Annotated[list[ElementInput], Field(min_length=1, max_length=MOST_EXAMPLES)]
