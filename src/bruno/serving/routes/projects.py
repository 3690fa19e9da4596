"""Projects and their classes."""

from __future__ import annotations

import math
from typing import Annotated, Any

import anyio
import sqlalchemy as sa
from fastapi import APIRouter, Path, Request, Response
from sqlalchemy.engine import Connection, Row

from bruno.serving.learning import ForgetClass
from bruno.serving.project_files import export_project, import_project
from bruno.serving.projects import (
    create_project,
    project_row,
    project_rows,
    verify_project,
)
from bruno.serving.routes import PREFIX
from bruno.serving.schemas.examples import ForgottenAnswer, ForgottenExample
from bruno.serving.schemas.fields import Id, ProjectName
from bruno.serving.schemas.projects import (
    ClassAnswer,
    ClassVerified,
    NewProject,
    ProjectAnswer,
    ProjectChange,
    VerifyAnswer,
)
from bruno.serving.state import Server, ServerState
from bruno.serving.tables import classes, projects

router = APIRouter(prefix=f"{PREFIX}/projects", tags=["projects"])
Project = Annotated[ProjectName, Path(description="Name of the project.")]


@router.get("")
def list_projects(server: Server) -> list[ProjectAnswer]:
    """Return all projects."""
    with server.store.reading() as connection:
        return [_answer(server, row) for row in project_rows(connection)]


@router.post("", status_code=201)
def make_project(server: Server, new: NewProject) -> ProjectAnswer:
    """Make a project."""
    keeps = server.settings.keep_examples if new.keep_examples is None else new.keep_examples

    def create(connection: Connection) -> ProjectAnswer:
        create_project(
            connection,
            new.name,
            server.model,
            keep_examples=keeps,
            unknown_prior=new.unknown_prior,
        )
        return _one(server, connection, new.name)

    return server.store.write(create)


@router.get("/{project}")
def get_project(server: Server, project: Project) -> ProjectAnswer:
    """Return a project."""
    with server.store.reading() as connection:
        return _one(server, connection, project)


@router.patch("/{project}")
def change_project(server: Server, project: Project, change: ProjectChange) -> ProjectAnswer:
    """Change settings of a project."""

    def update(connection: Connection) -> ProjectAnswer:
        row = project_row(connection, project)
        connection.execute(
            sa.update(projects)
            .where(projects.c.id == row.id)
            .values(unknown_prior=change.unknown_prior)
        )
        return _one(server, connection, project)

    return server.store.write(update)


@router.delete("/{project}", status_code=204)
def delete_project(server: Server, project: Project) -> None:
    """Delete a project with all its classes and examples."""

    def delete(connection: Connection) -> None:
        row = project_row(connection, project)
        connection.execute(sa.delete(projects).where(projects.c.id == row.id))

    server.store.write(delete)
    server.store.erase_traces()


@router.get("/{project}/classes")
def list_classes(server: Server, project: Project) -> list[ClassAnswer]:
    """Return the classes of a project, by name."""
    with server.store.reading() as connection:
        row = project_row(connection, project)
        found = connection.execute(
            sa.select(classes.c.id, classes.c.name, classes.c.size, classes.c.digest)
            .where(classes.c.project_id == row.id)
            .order_by(classes.c.name)
        )
        return [
            ClassAnswer(id=one.id, name=one.name, count=one.size, digest=one.digest)
            for one in found
        ]


@router.delete("/{project}/classes/{class_id}")
async def forget_class(server: Server, project: Project, class_id: Id) -> ForgottenAnswer:
    """Forget a class with all its examples."""
    project_id = await anyio.to_thread.run_sync(_project_id, server, project)
    result, erased = await server.inference.change(ForgetClass(project_id, class_id))
    left = ForgottenExample(id=result.id, class_name=result.class_name, count=0, digest=None)
    return ForgottenAnswer(forgotten=[left], erased=erased)


@router.get("/{project}/verify")
def verify(server: Server, project: Project) -> VerifyAnswer:
    """Compute the evidence of every class again, from the stored examples alone, and compare."""
    with server.store.reading() as connection:
        found = verify_project(connection, project)
    verified = [
        ClassVerified(name=row.name, count=row.size, digest=row.digest, is_equal=equal)
        for row, equal in found
    ]
    results = [one.is_equal for one in verified]
    return VerifyAnswer(
        is_equal=None if None in results else all(results),
        classes=verified,
    )


@router.get(
    "/{project}/export",
    response_class=Response,
    responses={200: {"content": {"application/octet-stream": {}}}},
)
def export(server: Server, project: Project) -> Response:
    """Return a project as one file."""
    with server.store.reading() as connection:
        data = export_project(connection, project)
    return Response(
        data,
        media_type="application/octet-stream",
        headers={"content-disposition": f'attachment; filename="{project}.bruno-project"'},
    )


@router.post(
    "/{project}/import",
    status_code=201,
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "application/octet-stream": {"schema": {"type": "string", "format": "binary"}}
            },
        }
    },
)
async def import_file(server: Server, project: Project, request: Request) -> ProjectAnswer:
    """Make a project of an exported file, after checking every example and sum in it."""
    data = await request.body()
    form = server.model.format
    size = math.prod(form.event_shape) * (1 if form.is_image else 8)

    def store(connection: Connection) -> ProjectAnswer:
        import_project(connection, project, data, server.model.sha256, size)
        return _one(server, connection, project)

    return await anyio.to_thread.run_sync(server.store.write, store)


def _project_id(server: ServerState, name: str) -> str:
    with server.store.reading() as connection:
        return str(project_row(connection, name).id)


def _one(server: ServerState, connection: Connection, name: str) -> ProjectAnswer:
    return _answer(server, project_rows(connection, name)[0])


def _answer(server: ServerState, row: Row[Any]) -> ProjectAnswer:
    return ProjectAnswer(
        name=row.name,
        model=row.model_name,
        is_servable=row.model_sha256 == server.model.sha256,
        keep_examples=row.keep_examples,
        unknown_prior=row.unknown_prior,
        classes=row.classes,
        examples=row.examples,
        revision=row.revision,
        created=row.created,
    )
