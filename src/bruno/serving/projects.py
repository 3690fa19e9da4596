"""Projects: made, listed, verified and deleted."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row
from sqlalchemy.exc import IntegrityError

from bruno.serving.errors import RefusalError, not_found
from bruno.serving.exact_evidence import ExactEvidence
from bruno.serving.learning import columns_of, latent_of, new_id
from bruno.serving.model import GivenClass, ServedModel
from bruno.serving.statements import PROJECT_BY_NAME
from bruno.serving.tables import classes, examples, projects

_ROWS_AT_ONCE = 1000


def create_project(
    connection: Connection,
    name: str,
    model: ServedModel,
    *,
    keep_examples: bool,
    unknown_prior: float,
    given: Sequence[GivenClass] = (),
) -> None:
    """Make a project.

    Args:
        connection: Inside a transaction.
        name: Its name.
        model: The model that encodes its examples.
        keep_examples: Whether it keeps the examples themselves.
        unknown_prior: Prior probability of none of its classes.
        given: Classes it begins with.

    Raises:
        RefusalError: 409 if there is one of this name.
    """
    project_id = new_id()
    try:
        with connection.begin_nested():
            connection.execute(
                sa.insert(projects).values(
                    id=project_id,
                    name=name,
                    model_name=model.name,
                    model_sha256=model.sha256,
                    dim=model.dim,
                    keep_examples=keep_examples,
                    unknown_prior=unknown_prior,
                    revision=1,
                    created=datetime.now(UTC),
                )
            )
    except IntegrityError:
        raise RefusalError(409, f"name: there is a project {name!r} already") from None
    for one in given:
        connection.execute(
            sa.insert(classes).values(
                id=new_id(),
                project_id=project_id,
                name=one.name,
                **columns_of(one.evidence),
                given_size=one.evidence.count,
                given_sums=one.evidence.to_bytes(),
                revision=1,
            )
        )


def project_row(connection: Connection, name: str) -> Row[Any]:
    """Return the row of a project.

    Args:
        connection: A connection.
        name: Name of the project.

    Raises:
        RefusalError: 404 if there is none.
    """
    row = connection.execute(PROJECT_BY_NAME, {"project_name": name}).one_or_none()
    if row is None:
        raise not_found("project", name)
    return row


def served_row(connection: Connection, name: str, model: ServedModel) -> Row[Any]:
    """Return the row of a project that was learned with the served model.

    Args:
        connection: Of the store.
        name: Name of the project.
        model: The served model.

    Raises:
        RefusalError: 404 if there is none of this name, 409 if it belongs to another model.
    """
    row = project_row(connection, name)
    if row.model_sha256 != model.sha256:
        raise RefusalError(
            409, f"project: {name!r} was learned with another model, {row.model_name!r}"
        )
    return row


def project_rows(connection: Connection, name: str | None = None) -> list[Row[Any]]:
    """Return all projects, or one, with the numbers of their classes and examples.

    Args:
        connection: That sees the database at one time.
        name: Name of the one.

    Raises:
        RefusalError: 404 if there is none of that name.
    """
    query = (
        sa.select(
            projects,
            sa.func.count(classes.c.id).label("classes"),
            sa.func.coalesce(sa.func.sum(classes.c.size), 0).label("examples"),
        )
        .outerjoin(classes, classes.c.project_id == projects.c.id)
        .group_by(projects.c.id)
        .order_by(projects.c.name)
    )
    if name is not None:
        query = query.where(projects.c.name == name)
    rows = list(connection.execute(query))
    if name is not None and not rows:
        raise not_found("project", name)
    return rows


def verify_project(connection: Connection, name: str) -> list[tuple[Row[Any], bool | None]]:
    """Return every class, and whether its evidence is that of its examples, bit for bit.

    Args:
        connection: That sees the database at one time.
        name: Name of the project.

    Returns:
        ``None`` for whether, if the project keeps no examples.

    Raises:
        RefusalError: 404 without the project.
    """
    project = project_row(connection, name)
    rows = connection.execute(
        sa.select(classes).where(classes.c.project_id == project.id).order_by(classes.c.name)
    ).all()
    if not project.keep_examples:
        return [(row, None) for row in rows]
    return [(row, _evidence_again(connection, row, project.dim) == row.digest) for row in rows]


def _evidence_again(connection: Connection, row: Row[Any], dim: int) -> str:
    """Return the digest of the evidence of the stored examples of a class."""
    total = ExactEvidence.empty(dim)
    if row.given_sums is not None:
        total = ExactEvidence.from_bytes(row.given_size, row.given_sums)
    found = connection.execute(sa.select(examples.c.latent).where(examples.c.class_id == row.id))
    for part in found.scalars().partitions(_ROWS_AT_ONCE):
        total = total + ExactEvidence.of(np.stack([latent_of(one) for one in part]))
    return total.digest()
