"""Statements of every request that learns or classifies, made once.

SQLAlchemy takes longer to make a statement, and the key by which its text is found again, than
SQLite to run it.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import bindparam

from bruno.serving.tables import classes, examples, projects, requests

PROJECT_BY_NAME = sa.select(projects).where(projects.c.name == bindparam("project_name"))
"""The project of a name."""

RAISE_REVISION = (
    sa.update(projects)
    .where(projects.c.id == bindparam("of_project"))
    .values(revision=projects.c.revision + 1)
    .returning(projects.c.revision, projects.c.keep_examples)
)
"""Raise the revision of a project; returns it and whether the project keeps examples."""

REQUEST_BY_KEY = sa.select(requests).where(
    requests.c.project_id == bindparam("of_project"), requests.c.key == bindparam("request_key")
)
"""The request of an idempotency key."""

CLASS_BY_NAME = sa.select(classes.c.id, classes.c.size, classes.c.sums).where(
    classes.c.project_id == bindparam("of_project"), classes.c.name == bindparam("class_name")
)
"""Id, size and sums of the class of a name."""

REPLACE_CLASS = sa.update(classes).where(classes.c.id == bindparam("of_class"))
"""Replace the columns of a class that are given."""

ADD_REQUEST = sa.insert(requests)
"""Add a request."""

ADD_EXAMPLES = sa.insert(examples)
"""Add examples."""
