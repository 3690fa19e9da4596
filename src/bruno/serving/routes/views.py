"""The conditional model: an object from other sides."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from bruno.serving.elements import picture
from bruno.serving.errors import RefusalError
from bruno.serving.routes import PREFIX
from bruno.serving.schemas.inference import ViewsAnswer, ViewsInput
from bruno.serving.state import Server
from bruno.serving.views import example_photo

router = APIRouter(prefix=f"{PREFIX}/views", tags=["views"])


@router.post("")
def draw_views(server: Server, given: ViewsInput) -> ViewsAnswer:
    """Draw the object of one picture from other sides."""
    if server.views is None:
        raise RefusalError(404, "views: this server does not serve a conditional model (--views)")
    seen, drawn = server.views.views(
        given.image, given.azimuths, given.latent_scale, given.seed, invert=given.invert
    )
    return ViewsAnswer(given=picture(seen), images=[picture(one) for one in drawn])


@router.get(
    "/example",
    response_class=Response,
    responses={200: {"content": {"image/png": {}}}},
)
def get_example(number: Annotated[int, Query(ge=0, lt=2**31)] = 0) -> Response:
    """Return a picture of an object to try."""
    return Response(example_photo(number), media_type="image/png")
