"""The classes of projects as they are now, kept in memory and brought up to date by revision."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from bruno.evidence import Evidence
from bruno.serving.errors import RefusalError, not_found
from bruno.serving.exact_evidence import ExactEvidence
from bruno.serving.statements import PROJECT_BY_NAME
from bruno.serving.tables import classes

_MOST_PROJECTS = 32


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A project at one time.

    Attributes:
        project_id: Its id.
        revision: Number of the last change of its classes.
        keep_examples: Whether it keeps the examples themselves.
        unknown_prior: Prior probability of none of the classes.
        ids: Ids of the classes.
        names: Their names, in the same order.
        evidence: Their evidence, of batch shape ``(K,)``.
    """

    project_id: str
    revision: int
    keep_examples: bool
    unknown_prior: float
    ids: tuple[str, ...]
    names: tuple[str, ...]
    evidence: Evidence

    def of_class(self, name: str) -> Evidence:
        """Return the evidence of a class, of batch shape ``()``.

        Raises:
            RefusalError: 404 if there is none of this name.
        """
        if name not in self.names:
            raise not_found("class", name)
        return self.evidence[self.names.index(name)]


class Snapshots:
    """Reads projects; only classes that changed since the last time are read again.

    Args:
        model_sha256: SHA-256 of the weights of the served model.
        model_name: Its name.
    """

    def __init__(self, model_sha256: str, model_name: str) -> None:
        self._sha256 = model_sha256
        self._name = model_name
        self._known: OrderedDict[str, Snapshot] = OrderedDict()
        self._lock = threading.Lock()

    def now(self, connection: Connection, name: str) -> Snapshot:
        """Return a project as it is now.

        Args:
            connection: That sees the database at one time.
            name: Name of the project.

        Raises:
            RefusalError: 404 without the project, 409 if it belongs to another model.
        """
        project = connection.execute(PROJECT_BY_NAME, {"project_name": name}).one_or_none()
        if project is None:
            raise not_found("project", name)
        if project.model_sha256 != self._sha256:
            raise RefusalError(
                409,
                f"project: {name!r} was learned with the model {project.model_name!r}, and this "
                f"server has {self._name!r}",
            )
        with self._lock:
            known = self._known.get(project.id)
        if (
            known is None
            or known.revision != project.revision
            or known.unknown_prior != project.unknown_prior
        ):
            known = self._read(connection, project, known)
        with self._lock:
            self._known[project.id] = known
            self._known.move_to_end(project.id)
            while len(self._known) > _MOST_PROJECTS:
                self._known.popitem(last=False)
        return known

    def _read(self, connection: Connection, project: Any, known: Snapshot | None) -> Snapshot:
        rows = connection.execute(
            sa.select(classes.c.id, classes.c.name, classes.c.revision)
            .where(classes.c.project_id == project.id)
            .order_by(classes.c.name)
        ).all()
        evidence: dict[str, Evidence] = {}
        since = -1
        if known is not None:
            since = known.revision
            evidence = {class_id: known.evidence[row] for row, class_id in enumerate(known.ids)}
        changed = connection.execute(
            sa.select(classes.c.id, classes.c.size, classes.c.sums).where(
                classes.c.project_id == project.id, classes.c.revision > since
            )
        )
        for row in changed:
            evidence[row.id] = ExactEvidence.from_bytes(row.size, row.sums).evidence()
        return Snapshot(
            project.id,
            project.revision,
            project.keep_examples,
            project.unknown_prior,
            tuple(row.id for row in rows),
            tuple(row.name for row in rows),
            Evidence.stack([evidence[row.id] for row in rows])
            if rows
            else Evidence.empty(project.dim, (0,)),
        )
