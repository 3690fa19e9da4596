"""Fields that several bodies share, and the base class that refuses unknown ones."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue

CROSS: JsonValue = [[[0, 0], [10, 10]], [[0, 10], [10, 0]]]
"""Strokes of the examples in the OpenAPI description."""


def _plain_text(text: str) -> str:
    if not text.strip() or not text.isprintable():
        raise ValueError("expected printable characters, and not only spaces")
    return text


ProjectName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]{0,63}$", examples=["my-letters"])]
ClassName = Annotated[
    str, Field(min_length=1, max_length=200, examples=["alpha"]), AfterValidator(_plain_text)
]
Id = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$", examples=["0f" * 16])]
Share = Annotated[float, Field(gt=0, lt=1, examples=[0.1])]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
LatentScale = Annotated[float, Field(ge=0, le=2)]


class Body(BaseModel):
    """A body, without fields that are not known."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
