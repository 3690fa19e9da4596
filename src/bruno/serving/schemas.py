"""Bodies of requests and answers, which the OpenAPI description is made from."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    JsonValue,
    model_validator,
)

MOST_EXAMPLES = 64
"""Elements of one request."""

MOST_CORPUS = 512
"""Elements of one request to rank."""

MOST_SAMPLES = 64

_MOST_STROKES, _MOST_POINTS = 256, 4096
_FURTHEST = 1e6
_PLUS = (
    "iVBORw0KGgoAAAANSUhEUgAAABwAAAAcCAAAAABXZoBIAAAAIklEQVR42mNgGNzg/39kHhM+pcNIkhHid+zi"
    "TCMk+AYdAABtjwUccbPPXAAAAABJRU5ErkJggg=="
)
_CROSS: JsonValue = [[[0, 0], [10, 10]], [[0, 10], [10, 0]]]


def _plain_text(text: str) -> str:
    if not text.strip() or not text.isprintable():
        raise ValueError("expected printable characters, and not only spaces")
    return text


def _near(value: float) -> float:
    if abs(value) > _FURTHEST:
        raise ValueError(f"expected a number from -{_FURTHEST:g} to {_FURTHEST:g}")
    return value


ProjectName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]{0,63}$", examples=["my-letters"])]
ClassName = Annotated[
    str, Field(min_length=1, max_length=200, examples=["alpha"]), AfterValidator(_plain_text)
]
Id = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$", examples=["0f" * 16])]
Share = Annotated[float, Field(gt=0, lt=1, examples=[0.1])]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
LatentScale = Annotated[float, Field(ge=0, le=2)]
Coordinate = Annotated[FiniteFloat, AfterValidator(_near)]


class Body(BaseModel):
    """A body, without fields that are not known."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class _ElementFields(Body):
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


class ElementInput(_ElementFields):
    """One element: exactly one of ``image``, ``strokes`` and ``vector``."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"strokes": _CROSS}, {"image": _PLUS, "prepare": "none"}]}
    )

    @model_validator(mode="after")
    def _has_one(self) -> Self:
        self.check_element()
        return self


Elements = Annotated[list[ElementInput], Field(min_length=1, max_length=MOST_EXAMPLES)]


class ModelAnswer(BaseModel):
    """The served model."""

    name: str
    weights_sha256: str
    event_shape: list[int] = Field(examples=[[1, 28, 28]])
    kind: Literal["image", "vector"]
    draws: bool = Field(description="Whether samples of the model are recognisable.")
    typical_log_density: float | None = Field(
        description="Mean log p(x) of training-like elements, in nats, if it is known."
    )
    typical_std: float | None
    views: bool = Field(description="Whether the conditional model is served, too.")


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


class NewExampleInput(ElementInput):
    """An example to learn."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"class": "cross", "strokes": _CROSS}]}
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


class ForgetTarget(_ElementFields):
    """An example to forget: its id, or the element, or both where it is not kept."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"id": "0f" * 16}, {"class": "cross", "strokes": _CROSS}]}
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


class ClassifyInput(Body):
    """Elements to classify."""

    elements: Elements
    unknown_prior: Share | None = None
    top: int = Field(10, ge=1, le=1000, description="How many classes to return, best first.")
    with_images: bool = Field(False, description="Whether to return what the model sees.")


class ClassProbability(BaseModel):
    """The probability of a class."""

    name: str
    probability: float
    log_density: float = Field(description="log p(x | examples of the class), in nats.")


class Classification(BaseModel):
    """An element classified."""

    classes: list[ClassProbability] = Field(description="The best, in order.")
    none_of_these: float
    log_density: float = Field(description="log p(x) of an element of an unknown class, in nats.")
    image: str | None = None


class ClassifyAnswer(BaseModel):
    """Elements classified."""

    results: list[Classification]


class GivenSet(Body):
    """A set: a class of the project, or elements; neither is the prior."""

    class_name: ClassName | None = Field(None, alias="class")
    given: list[ElementInput] = Field(default_factory=list, max_length=MOST_EXAMPLES)

    @model_validator(mode="after")
    def _not_both(self) -> Self:
        if self.class_name is not None and self.given:
            raise ValueError("expected a class or given elements, not both")
        return self


class SampleInput(GivenSet):
    """What to draw."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"given": [{"strokes": _CROSS}], "count": 4}]}
    )

    count: int = Field(8, ge=1, le=MOST_SAMPLES)
    latent_scale: LatentScale = Field(
        1.0, description="1 for exact samples; less for more typical and less varied ones."
    )
    seed: Seed = 0
    force: bool = Field(
        False, description="Draw even if samples of the model are known not to be recognised."
    )


class SampleAnswer(BaseModel):
    """New elements."""

    images: list[str] | None = Field(description="PNG files in base64.")
    vectors: list[list[float]] | None


class ScoreInput(GivenSet):
    """Elements to score given a set."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"given": [{"strokes": _CROSS}], "elements": [{"strokes": _CROSS}]}]
        }
    )

    elements: Elements


class ScoreAnswer(BaseModel):
    """Log-densities of elements, in nats."""

    log_density: list[float] = Field(description="log p(x | the set).")
    prior_log_density: list[float] = Field(description="log p(x) of an element of an unknown set.")


class RankInput(Body):
    """A handful of examples, and a corpus to rank by similarity to it."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"handful": [{"strokes": _CROSS}], "corpus": [{"strokes": _CROSS}]}]
        }
    )

    handful: Elements
    corpus: Annotated[list[ElementInput], Field(min_length=1, max_length=MOST_CORPUS)]
    top: int | None = Field(None, ge=1)


class RankAnswer(BaseModel):
    """Positions in the corpus, best first."""

    order: list[int]
    scores: list[float] = Field(description="log p(x | handful) - log p(x), in nats.")


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


class ViewsInput(Body):
    """A picture of an object, and the angles to see it from."""

    image: str = Field(min_length=1, description="A picture, in base64 or as a data URL.")
    azimuths: Annotated[
        list[Annotated[FiniteFloat, Field(ge=-3600, le=3600)]],
        Field(min_length=1, max_length=72, description="Degrees from the picture."),
    ]
    latent_scale: LatentScale = 0.3
    seed: Seed = 0
    invert: bool = False


class ViewsAnswer(BaseModel):
    """Views, one for each angle."""

    given: str = Field(description="PNG of what the model sees of the picture.")
    images: list[str]


class HealthAnswer(BaseModel):
    """A server that can answer."""

    status: Literal["ok"]


class VersionAnswer(BaseModel):
    """The version of the server."""

    bruno: str
    torch: str
    format: int = Field(description="Version of the file that projects are exported to.")


class Problem(BaseModel):
    """Why a request was refused (RFC 9457)."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
