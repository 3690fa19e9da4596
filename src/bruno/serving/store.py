"""The database: connections, transactions that are durable when they return, and migrations."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy.engine import Connection, Engine, make_url
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    InterfaceError,
    NoSuchModuleError,
    OperationalError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from bruno.errors import UserError
from bruno.serving.errors import RefusalError

_T = TypeVar("_T")
_DRIVERS = {"sqlite": "sqlite", "postgresql": "postgresql+psycopg"}
_MIGRATION_LOCK = 0x6272756E6F  # a number of our own for PostgreSQL's advisory lock
_PASSING = (OperationalError, InterfaceError, PoolTimeoutError)
_MOST_CONNECTIONS = 48  # more than the threads that answer requests
_POSTGRES_DISK_FULL = "53100"
_ATTEMPTS, _FIRST_PAUSE = 4, 0.05
_BUSY_SECONDS = 10
_CHECKPOINT_ATTEMPTS = 20


class Store:
    """A database of projects, shared by any number of processes.

    Args:
        url: ``sqlite:///file.db`` or ``postgresql://user:password@host/database``.

    Raises:
        UserError: If the URL is none of these, or the database cannot be opened or is newer.
    """

    def __init__(self, url: str) -> None:
        self._engine = _engine(url)
        self.is_sqlite = self._engine.dialect.name == "sqlite"
        try:
            self._migrate()
        except DBAPIError as error:
            self._engine.dispose()
            raise UserError(f"store: {_shown(url)} cannot be used: {error.orig}") from None
        except CommandError as error:
            self._engine.dispose()
            raise UserError(
                f"store: {_shown(url)} was written by another version of bruno: {error}"
            ) from None

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Return a connection that sees the database as it is at one time.

        Raises:
            RefusalError: 503 if the database cannot be reached.
        """
        try:
            with self._engine.connect() as connection:
                if not self.is_sqlite:
                    connection = connection.execution_options(isolation_level="REPEATABLE READ")
                yield connection
        except _PASSING as error:
            raise _refusal(error) from error

    def write(self, change: Callable[[Connection], _T]) -> _T:
        """Return the result of a change once it is on disk; repeated after passing failures.

        Args:
            change: Called with a connection, inside a transaction; again if that fails.

        Raises:
            RefusalError: 507 if the disk is full, 503 if the database cannot be reached; then
                nothing is changed.
        """
        pause = _FIRST_PAUSE
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                with self._engine.connect() as connection:
                    connection = connection.execution_options(bruno_writes=True)
                    with connection.begin():
                        return change(connection)
            except _PASSING as error:
                refusal = _refusal(error)
                if refusal.status == 507 or attempt == _ATTEMPTS:
                    raise refusal from error
                time.sleep(pause)
                pause *= 2
        raise AssertionError  # the last attempt returned or raised

    def erase_traces(self) -> bool | None:
        """Empty the write-ahead log, so that what was deleted is in no file of the store.

        Returns:
            Whether that is done: no, if readers still hold the log; ``None`` for a server, which
            does it by itself (``VACUUM``).
        """
        if not self.is_sqlite:
            return None
        for _ in range(_CHECKPOINT_ATTEMPTS):
            with suppress(DBAPIError), self._engine.connect() as connection:
                connection = connection.execution_options(isolation_level="AUTOCOMMIT")
                row = connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").one()
                if row[0] == 0:
                    return True
            time.sleep(_FIRST_PAUSE)
        return False

    def check(self) -> None:
        """Raise unless the database answers.

        Raises:
            RefusalError: 503 if it does not.
        """
        with self.reading() as connection:
            connection.execute(sa.text("SELECT 1"))

    def _migrate(self) -> None:
        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
        with self._engine.connect() as connection:
            connection = connection.execution_options(bruno_writes=True)
            with connection.begin():  # of SQLite it excludes other writers already
                if not self.is_sqlite:
                    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_MIGRATION_LOCK)))
                config.attributes["connection"] = connection
                command.upgrade(config, "head")


def _engine(url: str) -> Engine:
    try:
        parsed = make_url(url)
        name = parsed.get_backend_name()
        if name not in _DRIVERS:
            raise ArgumentError(name)
        if "+" not in parsed.drivername:
            parsed = parsed.set(drivername=_DRIVERS[name])
        parsed.get_dialect()
    except (ArgumentError, NoSuchModuleError, ValueError):
        raise UserError(
            "store: expected sqlite:///file.db or postgresql://user:password@host/database, got "
            f"{_shown(url)}"
        ) from None
    if name == "sqlite":
        return _sqlite_engine(parsed)
    return sa.create_engine(
        parsed,
        pool_pre_ping=True,
        max_overflow=_MOST_CONNECTIONS,
        connect_args={"connect_timeout": 5},
    )


def _sqlite_engine(url: sa.URL) -> Engine:
    if url.database in (None, "", ":memory:"):
        raise UserError("store: expected a file, as sqlite:///bruno.db, got a database in memory")
    folder = Path(str(url.database)).parent
    if not folder.is_dir():
        raise UserError(f"store: expected a file in a directory that is there, got {folder}")
    engine = sa.create_engine(
        url, max_overflow=_MOST_CONNECTIONS, connect_args={"timeout": _BUSY_SECONDS}
    )

    @sa.event.listens_for(engine, "connect")
    def prepare(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # transactions begin where SQLAlchemy begins them
        for pragma in (
            "journal_mode=WAL",  # readers go on while one writes
            "synchronous=FULL",  # a commit is on disk when it returns
            "foreign_keys=ON",
            "secure_delete=ON",  # deleted rows are overwritten with zeros
        ):
            connection.execute(f"PRAGMA {pragma}")

    @sa.event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get("bruno_writes")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _refusal(error: Exception) -> RefusalError:
    """Return the answer to a request whose statement failed."""
    if any(map(_is_full_disk, _causes(error))):
        return RefusalError(507, "store: the disk is full; nothing was changed", retry_after=60)
    return RefusalError(503, "store: the database cannot be reached or is busy", retry_after=1)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and those that it came in the way of: a full disk ends savepoints, too."""
    while error is not None:
        yield error
        if isinstance(error, DBAPIError) and error.orig is not None:
            yield error.orig
        error = error.__context__


def _is_full_disk(error: BaseException) -> bool:
    return (
        getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
        or getattr(error, "sqlstate", None) == _POSTGRES_DISK_FULL
    )


def _shown(url: str) -> str:
    """Return a URL without its password."""
    try:
        return make_url(url).render_as_string(hide_password=True)
    except ArgumentError:
        return repr(url)
