"""Health, version, metrics, and the served model."""

from __future__ import annotations

import torch
from fastapi import APIRouter, Response

from bruno.serving.project_files import FORMAT_VERSION
from bruno.serving.routes import PREFIX
from bruno.serving.schemas.system import HealthAnswer, ModelAnswer, VersionAnswer
from bruno.serving.state import Server
from bruno.version import __version__

router = APIRouter(tags=["server"])


@router.get("/health")
def health(server: Server) -> HealthAnswer:
    """Answer if the database does. Needs no token."""
    server.store.check()
    return HealthAnswer(status="ok")


@router.get("/version")
def version() -> VersionAnswer:
    """Return the versions of the server."""
    return VersionAnswer(bruno=__version__, torch=torch.__version__, format=FORMAT_VERSION)


@router.get("/metrics", response_class=Response)
def metrics(server: Server) -> Response:
    """Return figures of this process in the text format of Prometheus."""
    return Response(server.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


@router.get(f"{PREFIX}/model")
def model(server: Server) -> ModelAnswer:
    """Describe the served model."""
    served = server.model
    typical = served.typical
    return ModelAnswer(
        name=served.name,
        weights_sha256=served.sha256,
        event_shape=list(served.format.event_shape),
        kind="image" if served.format.is_image else "vector",
        draws=served.refusal_to_draw is None,
        typical_log_density=None if typical is None else typical.mean,
        typical_std=None if typical is None else typical.std,
        views=server.views is not None,
    )
