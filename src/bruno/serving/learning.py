"""Changes of a project: examples learned, once each, and forgotten, exactly.

Each change is an object with an ``apply`` that runs inside a transaction of the
:class:`~bruno.serving.store.Store`, so that it happens as a whole or not at all.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from bruno.serving.elements import digest_of
from bruno.serving.errors import RefusalError, not_found
from bruno.serving.exact_evidence import ExactEvidence, Integers
from bruno.serving.statements import (
    ADD_EXAMPLES,
    ADD_REQUEST,
    CLASS_BY_NAME,
    RAISE_REVISION,
    REPLACE_CLASS,
    REQUEST_BY_KEY,
)
from bruno.serving.tables import classes, examples, requests

KEY_HOURS = 24 * 7
"""Hours for which an idempotency key is remembered."""


@dataclass(frozen=True, eq=False)
class NewExample:
    """An example to learn.

    Attributes:
        class_name: Its class, which is made if there is none of this name.
        content: The element as bytes.
        latent: Its latent vector in fixed point, ``(D,)``.
    """

    class_name: str
    content: bytes
    latent: Integers


@dataclass(frozen=True)
class Learned:
    """An example that is stored.

    Attributes:
        id: Its id.
        class_id: Id of its class.
        class_name: Name of its class.
    """

    id: str
    class_id: str
    class_name: str


@dataclass(frozen=True, eq=False)
class Learn:
    """Learn examples, all or none; a second time with the same key changes nothing.

    Attributes:
        project_id: The project.
        key: Idempotency key.
        fingerprint: Digest of the request, by which another one with the same key is refused.
        new: The examples.
    """

    project_id: str
    key: str
    fingerprint: str | None
    new: Sequence[NewExample]

    def apply(self, connection: Connection) -> tuple[list[Learned], bool]:
        """Return the stored examples, and whether they were there already.

        Args:
            connection: Inside a transaction.

        Raises:
            RefusalError: 404 without the project, 409 if the key was used for another request.
        """
        revision, keeps = _begin(connection, self.project_id)
        earlier = connection.execute(
            REQUEST_BY_KEY, {"of_project": self.project_id, "request_key": self.key}
        ).one_or_none()
        if earlier is not None:
            # Without a fingerprint some of its examples are forgotten, and with them their content.
            is_other = earlier.fingerprint not in (None, self.fingerprint)
            if is_other or len(earlier.examples) != len(self.new):
                raise RefusalError(409, "Idempotency-Key: was used for another request")
            return [Learned(*row) for row in earlier.examples], True
        by_class: dict[str, list[Integers]] = {}
        for one in self.new:
            by_class.setdefault(one.class_name, []).append(one.latent)
        class_ids = {
            name: _add_to_class(
                connection, self.project_id, name, ExactEvidence.of(np.stack(latents)), revision
            )
            for name, latents in by_class.items()
        }
        now, request_id = datetime.now(UTC), new_id()
        learned, rows = [], []
        for one in self.new:
            latent = _latent_bytes(one.latent)
            learned.append(Learned(new_id(), class_ids[one.class_name], one.class_name))
            rows.append(
                {
                    "id": learned[-1].id,
                    "project_id": self.project_id,
                    "class_id": learned[-1].class_id,
                    "request_id": request_id,
                    "content_digest": digest_of(one.content),
                    "latent_digest": digest_of(latent),
                    "content": one.content if keeps else None,
                    "latent": latent if keeps else None,
                    "created": now,
                }
            )
        request = {
            "id": request_id,
            "project_id": self.project_id,
            "key": self.key,
            "fingerprint": self.fingerprint,
            "examples": [[one.id, one.class_id, one.class_name] for one in learned],
            "created": now,
        }
        connection.execute(ADD_REQUEST, request)
        connection.execute(ADD_EXAMPLES, rows)
        return learned, False


@dataclass(frozen=True, eq=False)
class Forgettable:
    """An example to forget, named by its id, by its content, or both.

    Attributes:
        name: What errors call it.
        example_id: Its id.
        class_name: Its class, where that is given.
        content_digest: Digest of its content, where that is given.
        latent: Its latent vector, from the content, for projects that keep none.
    """

    name: str
    example_id: str | None = None
    class_name: str | None = None
    content_digest: str | None = None
    latent: Integers | None = None


@dataclass(frozen=True)
class Forgotten:
    """What is left of a class after an example was forgotten.

    Attributes:
        id: Id of the example.
        class_name: Name of its class.
        count: Examples of the class that are left; with none the class is gone.
        digest: Digest of the evidence of the class, the same as if the example had never been
            learned; ``None`` without a class.
    """

    id: str
    class_name: str
    count: int
    digest: str | None


@dataclass(frozen=True, eq=False)
class Forget:
    """Forget examples, all or none.

    Attributes:
        project_id: The project.
        targets: The examples.
    """

    project_id: str
    targets: Sequence[Forgettable]

    def apply(self, connection: Connection) -> list[Forgotten]:
        """Return what is left.

        Args:
            connection: Inside a transaction.

        Raises:
            RefusalError: 404 without the project or an example; 409 if an example is not kept and
                must be sent to be forgotten, or is encoded differently than when it was learned.
        """
        revision, _ = _begin(connection, self.project_id)
        return [self._forget(connection, target, revision) for target in self.targets]

    def _forget(self, connection: Connection, target: Forgettable, revision: int) -> Forgotten:
        row = self._found(connection, target)
        vector = _stored_latent(row, target)
        before = ExactEvidence.from_bytes(row.size, row.sums)
        left = before - ExactEvidence.of(vector[None])
        connection.execute(sa.delete(examples).where(examples.c.id == row.id))
        _remove_fingerprints(connection, [row.request_id])
        if left.count == 0:
            connection.execute(sa.delete(classes).where(classes.c.id == row.class_id))
            return Forgotten(row.id, row.name, 0, None)
        _replace(connection, row.class_id, left, revision)
        return Forgotten(row.id, row.name, left.count, left.digest())

    def _found(self, connection: Connection, target: Forgettable) -> Row[Any]:
        query = (
            sa.select(examples, classes.c.name, classes.c.size, classes.c.sums)
            .join(classes, classes.c.id == examples.c.class_id)
            .where(examples.c.project_id == self.project_id)
            .order_by(examples.c.created.desc(), examples.c.id)
            .limit(1)
        )
        for column, value in (
            (examples.c.id, target.example_id),
            (classes.c.name, target.class_name),
            (examples.c.content_digest, target.content_digest),
        ):
            if value is not None:
                query = query.where(column == value)
        row = connection.execute(query).one_or_none()
        if row is None:
            raise RefusalError(
                404,
                f"{target.name}: there is no such example; it was never learned, or is "
                "forgotten already",
            )
        return row


@dataclass(frozen=True)
class ForgetClass:
    """Forget a class with all its examples.

    Attributes:
        project_id: The project.
        class_id: The class.
    """

    project_id: str
    class_id: str

    def apply(self, connection: Connection) -> Forgotten:
        """Return what is left, which is nothing.

        Args:
            connection: Inside a transaction.

        Raises:
            RefusalError: 404 without the class.
        """
        _begin(connection, self.project_id)
        name = connection.execute(
            sa.select(classes.c.name).where(
                classes.c.project_id == self.project_id, classes.c.id == self.class_id
            )
        ).scalar_one_or_none()
        if name is None:
            raise not_found("class", self.class_id)
        involved = sa.select(examples.c.request_id).where(examples.c.class_id == self.class_id)
        _remove_fingerprints(connection, connection.execute(involved).scalars().all())
        connection.execute(sa.delete(examples).where(examples.c.class_id == self.class_id))
        connection.execute(sa.delete(classes).where(classes.c.id == self.class_id))
        return Forgotten(self.class_id, name, 0, None)


Change = Learn | Forget | ForgetClass


def apply_all(connection: Connection, changes: Sequence[Change]) -> list[Any]:
    """Return the results of changes made in one transaction; a refused one undoes only itself.

    Args:
        connection: Inside a transaction.
        changes: The changes.
    """
    results: list[Any] = [None] * len(changes)
    # Projects are locked in one order by all processes, so none waits for another in a circle.
    order = sorted(range(len(changes)), key=lambda i: changes[i].project_id)
    with suppress(ValueError), connection.begin_nested():
        for index in order:
            results[index] = changes[index].apply(connection)
        return results
    # One was refused, and all are undone: again, each in a savepoint of its own.
    for index in order:
        try:
            with connection.begin_nested():
                results[index] = changes[index].apply(connection)
        except ValueError as error:
            results[index] = error
    return results


def drop_old_keys(connection: Connection) -> None:
    """Forget idempotency keys that are older than :data:`KEY_HOURS`."""
    limit = datetime.now(UTC) - timedelta(hours=KEY_HOURS)
    connection.execute(sa.delete(requests).where(requests.c.created < limit))


def new_id() -> str:
    """Return a new id."""
    return uuid.uuid4().hex


def latent_of(data: bytes) -> Integers:
    """Return the latent vector that a row of examples holds."""
    return np.frombuffer(data, "<i8").astype(np.int64)


def _latent_bytes(latent: Integers) -> bytes:
    return latent.astype("<i8").tobytes()


def _begin(connection: Connection, project_id: str) -> tuple[int, bool]:
    """Lock a project, raise its revision, and return that and whether it keeps examples."""
    row = connection.execute(RAISE_REVISION, {"of_project": project_id}).one_or_none()
    if row is None:
        raise RefusalError(404, "project: it was deleted meanwhile")
    return row.revision, row.keep_examples


def _add_to_class(
    connection: Connection, project_id: str, name: str, more: ExactEvidence, revision: int
) -> str:
    """Return the id of a class after adding evidence to it; it is made if it is new."""
    row = connection.execute(
        CLASS_BY_NAME, {"of_project": project_id, "class_name": name}
    ).one_or_none()
    if row is not None:
        _replace(connection, row.id, ExactEvidence.from_bytes(row.size, row.sums) + more, revision)
        return str(row.id)
    class_id = new_id()
    connection.execute(
        sa.insert(classes).values(
            id=class_id,
            project_id=project_id,
            name=name,
            given_size=0,
            **columns_of(more),
            revision=revision,
        )
    )
    return class_id


def columns_of(evidence: ExactEvidence) -> dict[str, Any]:
    """Return the columns of a class that hold its evidence."""
    return {
        "size": evidence.count,
        "sums": evidence.to_bytes(),
        "digest": evidence.digest(),
    }


def _replace(connection: Connection, class_id: str, evidence: ExactEvidence, revision: int) -> None:
    changed = {"of_class": class_id, **columns_of(evidence), "revision": revision}
    connection.execute(REPLACE_CLASS, changed)


def _stored_latent(row: Row[Any], target: Forgettable) -> Integers:
    if row.latent is not None:
        return latent_of(row.latent)
    if target.latent is None:
        raise RefusalError(
            409,
            f"{target.name}: this project keeps no examples, so the example itself is needed to "
            "forget it; send it to the forget endpoint",
        )
    if digest_of(_latent_bytes(target.latent)) != row.latent_digest:
        raise RefusalError(
            409,
            f"{target.name}: this machine encodes the example differently than the one that "
            "learned it, so it cannot be forgotten exactly; forget its class instead",
        )
    return target.latent


def _remove_fingerprints(connection: Connection, request_ids: Sequence[str | None]) -> None:
    """Remove what is known of the content of requests, whose keys stay."""
    ids = sorted({one for one in request_ids if one is not None})
    for start in range(0, len(ids), 500):  # databases limit the parameters of a statement
        connection.execute(
            sa.update(requests)
            .where(requests.c.id.in_(ids[start : start + 500]))
            .values(fingerprint=None)
        )
