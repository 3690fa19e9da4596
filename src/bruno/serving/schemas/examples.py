"""Bodies about examples: learned, listed and forgotten."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from bruno.serving.schemas.elements import MOST_EXAMPLES, ElementFields, ElementInput
from bruno.serving.schemas.fields import CROSS, Body, ClassName, Id


class NewExampleInput(ElementInput):
    """An example to learn."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"class": "cross", "strokes": CROSS}]}
    )

    class_name: ClassName = Field(alias="class")


class LearnInput(Body):
    """Examples to learn, all or none."""

    examples: Annotated[list[NewExampleInput], Field(min_length=1, max_length=MOST_EXAMPLES)]


class ExampleAnswer(BaseModel):
    """A stored example."""

    id: Id
    class_id: Id
    class_name: str = Field(serialization_alias="class")
    created: datetime
    is_kept: bool = Field(description="Whether the example itself is stored.")


class LearnedAnswer(BaseModel):
    """Examples that are durably learned."""

    examples: list[LearnedExample]
    replayed: bool = Field(
        description="Whether an earlier request with this idempotency key had learned them."
    )


class LearnedExample(BaseModel):
    """An example that was learned."""

    id: Id
    class_id: Id
    class_name: str = Field(serialization_alias="class")
    image: str | None = Field(description="PNG in base64 of what the model sees; null for vectors.")


class ForgetTarget(ElementFields):
    """An example to forget: its id, or the element, or both where it is not kept."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"id": "0f" * 16}, {"class": "cross", "strokes": CROSS}]}
    )

    id: Id | None = None
    class_name: ClassName | None = Field(None, alias="class")

    @model_validator(mode="after")
    def _has_one(self) -> Self:
        if self.id is None or self.is_given:
            self.check_element()
        return self


class ForgetInput(Body):
    """Examples to forget, all or none."""

    examples: Annotated[list[ForgetTarget], Field(min_length=1, max_length=MOST_EXAMPLES)]


class ForgottenExample(BaseModel):
    """What is left of a class."""

    id: Id
    class_name: str = Field(serialization_alias="class")
    count: int = Field(description="Examples that are left; with none the class is gone.")
    digest: str | None = Field(
        description="SHA-256 of the evidence that is left: that of a class that never had the "
        "example. Null if the class is gone."
    )


class ForgottenAnswer(BaseModel):
    """Examples that are durably forgotten."""

    forgotten: list[ForgottenExample]
    erased: bool | None = Field(
        description="Whether their bytes are in no file of the database any more. Null for "
        "PostgreSQL, which removes them with VACUUM."
    )
