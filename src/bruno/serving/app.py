"""The application: a model, a store, the routes and what is checked before them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from bruno.device import resolve_device
from bruno.errors import UserError
from bruno.serving.errors import RefusalError, refusal_of
from bruno.serving.guard import Guard
from bruno.serving.inference import Inference
from bruno.serving.learning import drop_old_keys
from bruno.serving.metrics import Metrics
from bruno.serving.model import ServedModel, load_model
from bruno.serving.projects import create_project
from bruno.serving.reading import ElementReader
from bruno.serving.routes import examples, inference, projects, system, views
from bruno.serving.schemas.system import Problem
from bruno.serving.settings import ServerSettings, token_for
from bruno.serving.state import ServerState
from bruno.serving.store import Store
from bruno.serving.views import ViewsModel
from bruno.version import __version__

CLASSIFIER_PROJECT = "classifier"
"""Project that the classes of a saved classifier are served as."""

_STATIC = Path(__file__).parent / "static"
_DESCRIPTION = """Learns classes from a few examples each, one example at a time, and forgets any of
them exactly: the evidence of a class after forgetting is, bit for bit, that of a class which never
had the example.

Densities are in nats. Refusals are problems (RFC 9457) with a `detail` that names the field, what
was expected and what came. Where the server has a token, requests bring it as
`Authorization: Bearer TOKEN`."""


def create_app(settings: ServerSettings, model: ServedModel | None = None) -> FastAPI:
    """Return the application.

    Args:
        settings: Settings of the server.
        model: The model, if it is loaded already.

    Raises:
        UserError: If the server would be reached by others without a token, or the model or the
            store cannot be used.
    """
    token = token_for(settings.host)
    metrics = Metrics()
    store = Store(settings.store)
    served = model or load_model(settings)
    engine = Inference(served, store, settings, metrics)
    seen = (
        ViewsModel(settings.max_pixels * 10**6, resolve_device(settings.device))
        if settings.views
        else None
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        engine.close()
        store.close()

    store.write(drop_old_keys)
    if served.given:
        _give_classes(store, served, settings)
    app = FastAPI(
        title="bruno",
        version=__version__,
        description=_DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,  # their pages load scripts from other servers
        redoc_url=None,
        responses={
            status: {"model": Problem, "description": text, "content": {_PROBLEM: {}}}
            for status, text in _PROBLEMS.items()
        },
    )
    app.state.server = ServerState(
        settings, served, ElementReader(served.format), store, engine, metrics, seen
    )
    for module in (system, projects, examples, inference, views):
        app.include_router(module.router)
    app.mount("/static", StaticFiles(directory=_STATIC), name="static")
    app.add_api_route("/", _page, include_in_schema=False)
    app.add_exception_handler(UserError, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_middleware(Guard, settings=settings, token=token, metrics=metrics)
    return app


_PROBLEM = "application/problem+json"
_PROBLEMS: dict[int | str, str] = {
    400: "The body is no JSON.",
    401: "The token is missing or wrong.",
    404: "There is no such thing.",
    408: "The body did not come in time.",
    409: "It contradicts what is there.",
    413: "The body, or its list of elements, is too large.",
    421: "The server does not answer to that name.",
    422: "A field is not as expected.",
    429: "Too many requests.",
    503: "The database cannot be reached, or too many requests wait.",
    507: "The disk is full.",
}


def _page() -> FileResponse:
    return FileResponse(_STATIC / "index.html", headers={"cache-control": "no-cache"})


def _give_classes(store: Store, model: ServedModel, settings: ServerSettings) -> None:
    """Make the project of a saved classifier, unless an earlier start did."""

    def give(connection: Any) -> None:
        create_project(
            connection,
            CLASSIFIER_PROJECT,
            model,
            keep_examples=settings.keep_examples,
            unknown_prior=0.1,
            given=model.given,
        )

    try:
        store.write(give)
    except RefusalError as refusal:
        if refusal.status != 409:
            raise


def _problem(status: int, detail: str, retry_after: int | None = None) -> JSONResponse:
    content = Problem(title=HTTPStatus(status).phrase, status=status, detail=detail)
    headers = {} if retry_after is None else {"retry-after": str(retry_after)}
    return JSONResponse(content.model_dump(), status, headers, media_type=_PROBLEM)


async def _refused(_: Request, error: Exception) -> JSONResponse:
    status = error.status if isinstance(error, RefusalError) else 422
    return _problem(status, str(error), getattr(error, "retry_after", None))


async def _invalid(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - as it is registered
    return _problem(*refusal_of(error.errors()[0]))


async def _http(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101 - as it is registered
    return _problem(error.status_code, str(error.detail))
