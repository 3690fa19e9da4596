"""Bodies about projects and their classes."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, Field

from bruno.serving.schemas.fields import Body, ClassName, Id, ProjectName, Share


class NewProject(Body):
    """A project to make."""

    name: ProjectName
    keep_examples: bool | None = Field(
        None,
        description="Whether the examples themselves are stored. Without them, forgetting one "
        "needs the example again. By default as the server is set.",
    )
    unknown_prior: Share = Field(0.1, description="Prior probability of none of the classes.")


class ProjectChange(Body):
    """Settings of a project to change."""

    unknown_prior: Share


class ProjectAnswer(BaseModel):
    """A project."""

    name: ProjectName
    model: str
    is_servable: bool = Field(description="Whether it was learned with the model served now.")
    keep_examples: bool
    unknown_prior: float
    classes: int
    examples: int
    revision: int
    created: datetime


class ClassAnswer(BaseModel):
    """A class of a project."""

    id: Id
    name: ClassName
    count: int = Field(description="Examples it rests on.")
    digest: str = Field(
        description="SHA-256 of its evidence. It is the same for the same examples, in whatever "
        "order they came and whatever was learned and forgotten between."
    )


class ClassVerified(BaseModel):
    """The evidence of a class, computed again."""

    name: str
    count: int
    digest: str
    is_equal: bool | None = Field(
        description="Whether the stored evidence is, bit for bit, that of the stored examples. "
        "Null where examples are not kept."
    )


class VerifyAnswer(BaseModel):
    """Whether a project holds its examples and nothing else."""

    is_equal: bool | None
    classes: list[ClassVerified]
