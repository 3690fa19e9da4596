"""Examples: learned, listed and forgotten."""

from __future__ import annotations

import uuid
from typing import Annotated, Any

import anyio
import sqlalchemy as sa
from fastapi import APIRouter, Header, Query, Response
from sqlalchemy.engine import Row

from bruno.serving.elements import content_of, digest_of, picture, png
from bruno.serving.errors import not_found
from bruno.serving.inference import Encode, EncodeToLearn
from bruno.serving.learning import Forget, Forgettable, Learn, NewExample
from bruno.serving.projects import project_row, served_row
from bruno.serving.routes import PREFIX
from bruno.serving.routes.projects import Project
from bruno.serving.schemas.examples import (
    ExampleAnswer,
    ForgetInput,
    ForgottenAnswer,
    ForgottenExample,
    LearnedAnswer,
    LearnedExample,
    LearnInput,
)
from bruno.serving.schemas.fields import Id
from bruno.serving.state import Server, ServerState
from bruno.serving.tables import classes, examples

router = APIRouter(prefix=f"{PREFIX}/projects/{{project}}", tags=["examples"])
Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=200,
        pattern=r"^[\x21-\x7e]+$",
        description="A name for this request, new for each. Sent again with it, the examples are "
        "not learned a second time.",
    ),
]


@router.post("/examples", status_code=201)
async def learn(
    server: Server, project: Project, given: LearnInput, key: Key = None
) -> LearnedAnswer:
    """Learn examples, all or none. They are on disk when this answers."""
    elements = await server.reader.read(given.examples, "examples")
    row, encoded = await server.inference.encode_to_learn(EncodeToLearn(elements, project))
    latents = server.model.fixed_points(encoded.codes)
    contents = [content_of(element) for element in elements]
    names = [one.class_name for one in given.examples]
    fingerprint = None
    if key is not None:
        whole = b"".join(
            part
            for name, content in zip(names, contents, strict=True)
            for part in (name.encode(), b"\0", content)
        )
        fingerprint = digest_of(whole)
    change = Learn(
        row.id,
        key or f"without-key:{uuid.uuid4().hex}",
        fingerprint,
        [NewExample(*parts) for parts in zip(names, contents, latents, strict=True)],
    )
    learned, replayed = await server.inference.change(change)
    if not replayed:
        server.metrics.learned.inc(len(learned))
    is_image = server.model.format.is_image
    return LearnedAnswer(
        examples=[
            LearnedExample(
                id=one.id,
                class_id=one.class_id,
                class_name=one.class_name,
                image=picture(element) if is_image else None,
            )
            for one, element in zip(learned, elements, strict=True)
        ],
        replayed=replayed,
    )


@router.get("/examples")
def list_examples(
    server: Server,
    project: Project,
    class_id: Id | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    offset: Annotated[int, Query(ge=0, lt=2**31)] = 0,
) -> list[ExampleAnswer]:
    """Return examples, newest first."""
    with server.store.reading() as connection:
        query = _examples().where(examples.c.project_id == project_row(connection, project).id)
        if class_id is not None:
            query = query.where(examples.c.class_id == class_id)
        query = query.order_by(examples.c.created.desc(), examples.c.id).limit(limit).offset(offset)
        return [_answer(row) for row in connection.execute(query)]


@router.get("/examples/{example_id}")
def get_example(server: Server, project: Project, example_id: Id) -> ExampleAnswer:
    """Return an example."""
    with server.store.reading() as connection:
        row = connection.execute(
            _examples().where(
                examples.c.project_id == project_row(connection, project).id,
                examples.c.id == example_id,
            )
        ).one_or_none()
    if row is None:
        raise not_found("example", example_id)
    return _answer(row)


@router.get(
    "/examples/{example_id}/image",
    response_class=Response,
    responses={200: {"content": {"image/png": {}}}},
)
def get_image(server: Server, project: Project, example_id: Id) -> Response:
    """Return the image of an example, as the model sees it."""
    with server.store.reading() as connection:
        content = connection.execute(
            sa.select(examples.c.content).where(
                examples.c.project_id == project_row(connection, project).id,
                examples.c.id == example_id,
            )
        ).scalar_one_or_none()
    if content is None or not server.model.format.is_image:
        raise not_found("image of an example", example_id)
    image = png(server.model.format.from_content(content))
    return Response(image, media_type="image/png", headers={"cache-control": "no-store"})


@router.delete("/examples/{example_id}")
async def forget_one(server: Server, project: Project, example_id: Id) -> ForgottenAnswer:
    """Forget an example by its id. If the project keeps no examples, see ``forget``."""
    row = await anyio.to_thread.run_sync(_project, server, project)
    return await _forget(server, row.id, [Forgettable("example", example_id)])


@router.post("/forget")
async def forget(server: Server, project: Project, given: ForgetInput) -> ForgottenAnswer:
    """Forget examples by id, or by the examples themselves; all or none.

    Where a project keeps no examples, they must be sent again, just as they were learned.
    """
    row = await anyio.to_thread.run_sync(_project, server, project)
    sent = [index for index, one in enumerate(given.examples) if one.is_given]
    contents: dict[int, tuple[str, Any]] = {}
    if sent:
        chosen = [given.examples[index] for index in sent]
        elements = await server.reader.read(chosen, "examples")
        latents: Any = [None] * len(sent)
        if not row.keep_examples:
            encoded = await server.inference.encode(Encode(elements, repeatably=True))
            latents = server.model.fixed_points(encoded.codes)
        for index, element, latent in zip(sent, elements, latents, strict=True):
            contents[index] = digest_of(content_of(element)), latent
    targets = [
        Forgettable(f"examples.{index}", one.id, one.class_name, *contents.get(index, (None, None)))
        for index, one in enumerate(given.examples)
    ]
    return await _forget(server, row.id, targets)


async def _forget(
    server: ServerState, project_id: str, targets: list[Forgettable]
) -> ForgottenAnswer:
    results, erased = await server.inference.change(Forget(project_id, targets))
    server.metrics.forgotten.inc(len(results))
    return ForgottenAnswer(
        forgotten=[
            ForgottenExample(
                id=one.id, class_name=one.class_name, count=one.count, digest=one.digest
            )
            for one in results
        ],
        erased=erased,
    )


def _project(server: ServerState, name: str) -> Row[Any]:
    """Return the row of a project of the served model."""
    with server.store.reading() as connection:
        return served_row(connection, name, server.model)


def _examples() -> sa.Select[Any]:
    return sa.select(
        examples.c.id,
        examples.c.class_id,
        examples.c.created,
        examples.c.content.is_not(None).label("is_kept"),
        classes.c.name,
    ).join(classes, classes.c.id == examples.c.class_id)


def _answer(row: Row[Any]) -> ExampleAnswer:
    return ExampleAnswer(
        id=row.id,
        class_id=row.class_id,
        class_name=row.name,
        created=row.created,
        is_kept=bool(row.is_kept),
    )
