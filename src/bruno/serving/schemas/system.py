"""Answers of the server about itself, and refusals."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field


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
