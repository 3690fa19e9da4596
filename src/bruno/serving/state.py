"""The parts of a running server, as routes find them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, Request

from bruno.serving.inference import Inference
from bruno.serving.metrics import Metrics
from bruno.serving.model import ServedModel
from bruno.serving.reading import ElementReader
from bruno.serving.settings import ServerSettings
from bruno.serving.store import Store
from bruno.serving.views import ViewsModel


@dataclass(frozen=True, eq=False)
class ServerState:
    """The parts of a running server.

    Attributes:
        settings: Its settings.
        model: Its model.
        reader: Reads the elements of requests.
        store: Its database.
        inference: The threads of model and database.
        metrics: Its figures.
        views: The conditional model, if it is served.
    """

    settings: ServerSettings
    model: ServedModel
    reader: ElementReader
    store: Store
    inference: Inference
    metrics: Metrics
    views: ViewsModel | None


async def _state(request: Request) -> ServerState:  # else it would be called in a thread
    return cast("ServerState", request.app.state.server)


Server = Annotated[ServerState, Depends(_state)]
"""The parameter of a route that receives the parts."""
