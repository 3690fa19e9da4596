"""Bodies of classification, sampling, scoring, ranking and views."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator

from bruno.serving.schemas.elements import MOST_EXAMPLES, ElementInput, Elements
from bruno.serving.schemas.fields import CROSS, Body, ClassName, LatentScale, Seed, Share

MOST_CORPUS = 512
"""Elements of one request to rank."""

MOST_SAMPLES = 64


class ClassifyInput(Body):
    """Elements to classify."""

    elements: Elements
    unknown_prior: Share | None = None
    top: int = Field(10, ge=1, le=1000, description="How many classes to return, best first.")
    with_densities: bool = Field(
        False,
        description="Whether to return log-densities, too, which take several times as long.",
    )
    with_images: bool = Field(False, description="Whether to return what the model sees.")


class ClassProbability(BaseModel):
    """The probability of a class."""

    name: str
    probability: float
    log_ratio: float = Field(description="log p(x | examples of the class) - log p(x), in nats.")
    log_density: float | None = Field(
        description="log p(x | examples of the class), in nats, if it was asked for."
    )


class Classification(BaseModel):
    """An element classified."""

    classes: list[ClassProbability] = Field(description="The best, in order.")
    none_of_these: float
    log_density: float | None = Field(
        description="log p(x) of an element of an unknown class, in nats, if it was asked for."
    )
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
        json_schema_extra={"examples": [{"given": [{"strokes": CROSS}], "count": 4}]}
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
            "examples": [{"given": [{"strokes": CROSS}], "elements": [{"strokes": CROSS}]}]
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
            "examples": [{"handful": [{"strokes": CROSS}], "corpus": [{"strokes": CROSS}]}]
        }
    )

    handful: Elements
    corpus: Annotated[list[ElementInput], Field(min_length=1, max_length=MOST_CORPUS)]
    top: int | None = Field(None, ge=1)


class RankAnswer(BaseModel):
    """Positions in the corpus, best first."""

    order: list[int]
    scores: list[float] = Field(description="log p(x | handful) - log p(x), in nats.")


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
