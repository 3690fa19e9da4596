"""Tables of the store. Migrations in :mod:`bruno.serving.migrations` make and change them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    TypeDecorator,
    UniqueConstraint,
)


def in_utc(time: datetime) -> datetime:
    """Return a time in UTC, which it is in if it has no time zone."""
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


class _Time(TypeDecorator[datetime]):
    """A time in UTC. SQLite keeps no time zones, and PostgreSQL answers in that of the session."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, _: Any) -> datetime | None:
        """Return what is stored."""
        return None if value is None else in_utc(value)

    def process_result_value(self, value: datetime | None, _: Any) -> datetime | None:
        """Return what was stored."""
        return None if value is None else in_utc(value)


metadata = MetaData(
    naming_convention={
        "ix": "ix_%(column_0_label)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

projects = Table(
    "project",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("name", String(64), nullable=False, unique=True),
    Column("model_name", String(200), nullable=False),
    Column("model_sha256", String(64), nullable=False),
    Column("dim", Integer, nullable=False),
    Column("keep_examples", Boolean, nullable=False),
    Column("unknown_prior", Float, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("created", _Time, nullable=False),
)
"""Each change of the classes of a project raises its revision."""

classes = Table(
    "class",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("project_id", ForeignKey("project.id", ondelete="CASCADE"), nullable=False),
    Column("name", String(200), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("sums", LargeBinary, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("given_size", BigInteger, nullable=False),
    Column("given_sums", LargeBinary),
    Column("revision", BigInteger, nullable=False),
    UniqueConstraint("project_id", "name"),
)
"""``sums`` are those of :class:`~bruno.serving.exact_evidence.ExactEvidence`; ``given_sums`` the
part of them that came without examples, from a saved classifier."""

requests = Table(
    "request",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("project_id", ForeignKey("project.id", ondelete="CASCADE"), nullable=False),
    Column("key", String(200), nullable=False),
    Column("fingerprint", String(64)),
    Column("examples", JSON, nullable=False),
    Column("created", _Time, nullable=False),
    UniqueConstraint("project_id", "key"),
)
"""Requests to learn that were answered, by idempotency key. The fingerprint of the content is
removed when one of the examples is forgotten."""

examples = Table(
    "example",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("project_id", ForeignKey("project.id", ondelete="CASCADE"), nullable=False),
    Column("class_id", ForeignKey("class.id", ondelete="CASCADE"), nullable=False),
    Column("request_id", ForeignKey("request.id", ondelete="SET NULL")),
    Column("content_digest", String(64), nullable=False),
    Column("latent_digest", String(64), nullable=False),
    Column("content", LargeBinary),
    Column("latent", LargeBinary),
    Column("created", _Time, nullable=False),
    Index("ix_example_class_id", "class_id"),
    Index("ix_example_request_id", "request_id"),
    Index("ix_example_project_id_content_digest", "project_id", "content_digest"),
)
"""``content`` and ``latent`` are there if the project keeps examples."""
