"""The database: its migrations, its refusals, and its errors."""

import sqlite3

import numpy as np
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from bruno import UserError
from bruno.serving.errors import RefusalError
from bruno.serving.learning import Forget, Forgettable, Learn, NewExample, apply_all
from bruno.serving.projects import create_project, project_row
from bruno.serving.store import Store
from bruno.serving.tables import classes, examples, metadata, projects
from tests.serving.conftest import API, CROSS, LINE


def test_migrations_make_the_tables_that_the_code_has(tmp_path):
    store = Store(f"sqlite:///{tmp_path}/a.db")
    with store.reading() as connection:
        context = MigrationContext.configure(connection)
        assert compare_metadata(context, metadata) == []
    store.close()


def test_a_store_of_a_newer_version_is_refused(tmp_path):
    Store(f"sqlite:///{tmp_path}/a.db").close()
    with sqlite3.connect(tmp_path / "a.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(UserError, match="written by another version of bruno"):
        Store(f"sqlite:///{tmp_path}/a.db")


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("bruno.db", "expected sqlite:///file.db or postgresql://"),
        ("mysql://a:secret@b/c", "expected sqlite:///file.db or postgresql://"),
        ("sqlite://", "got a database in memory"),
        ("sqlite:////nowhere/at/all/a.db", "in a directory that is there"),
        ("postgresql://u:secret@127.0.0.1:1/d", "cannot be used"),
    ],
)
def test_wrong_urls_are_one_error_without_the_password(url, reason):
    with pytest.raises(UserError, match=reason) as found:
        Store(url)
    assert "secret" not in str(found.value)


def test_a_file_that_is_no_database_is_refused(tmp_path):
    (tmp_path / "a.db").write_bytes(b"not a database" * 1000)
    with pytest.raises(UserError, match="cannot be used"):
        Store(f"sqlite:///{tmp_path}/a.db")


def test_a_full_disk_changes_nothing_and_passes(serve):
    client = serve()
    client.post(API, json={"name": "letters"})
    body = {"examples": [{"class": "cross", **CROSS}]}
    assert client.post(f"{API}/letters/examples", json=body).status_code == 201
    before = client.get(f"{API}/letters/classes").json()
    store = client.app.state.server.store

    def limit(pages):
        """Let the database have no more pages, as a full disk does."""

        @sa.event.listens_for(store._engine, "checkout")
        def checkout(connection, *_):
            connection.execute(f"PRAGMA max_page_count={pages}")

        return checkout

    with store.reading() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
    checkout = limit(pages)
    many = {"examples": [{"class": f"c{i}", **LINE} for i in range(30)]}
    answer = client.post(f"{API}/letters/examples", json=many)
    assert answer.status_code == 507, answer.text
    assert "the disk is full" in answer.json()["detail"]
    assert client.get(f"{API}/letters/classes").json() == before
    sa.event.remove(store._engine, "checkout", checkout)
    limit(10**6)
    assert client.post(f"{API}/letters/examples", json=many).status_code == 201
    assert client.get(f"{API}/letters/verify").json()["is_equal"]


def test_a_database_that_is_locked_is_503(tmp_path, monkeypatch):
    monkeypatch.setattr("bruno.serving.store._BUSY_SECONDS", 0.05)
    store = Store(f"sqlite:///{tmp_path}/a.db")
    other = sqlite3.connect(tmp_path / "a.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(RefusalError, match="busy") as found:
        store.write(lambda connection: connection.execute(sa.delete(projects)))
    assert found.value.status == 503
    other.execute("COMMIT")
    store.write(lambda connection: connection.execute(sa.delete(projects)))
    store.close()


def test_a_refused_change_undoes_only_itself(tmp_path, model):
    """Also where others of its transaction, and of its project, come before and after it."""
    store = Store(f"sqlite:///{tmp_path}/bruno.db")

    def make(connection):
        options = {"keep_examples": True, "unknown_prior": 0.1}
        return create_project(connection, "p", model, **options)

    store.write(make)
    with store.reading() as connection:
        project = project_row(connection, "p")
    latent = np.zeros(model.dim, dtype=np.int64)

    def learn(key, name):
        return Learn(project.id, key, None, [NewExample(name, b"content", latent)])

    changes = [
        learn("1", "a"),
        Forget(project.id, [Forgettable("example", "0" * 32)]),
        learn("2", "b"),
        Learn("no project", "3", None, [NewExample("c", b"content", latent)]),
        learn("1", "a"),
    ]
    first, missing, second, unknown, again = store.write(lambda each: apply_all(each, changes))
    assert (missing.status, unknown.status) == (404, 404)
    assert again == (first[0], True)
    with store.reading() as connection:
        names = connection.execute(sa.select(classes.c.name, classes.c.size)).all()
        stored = set(connection.execute(sa.select(examples.c.id)).scalars())
    assert sorted(map(tuple, names)) == [("a", 1), ("b", 1)]
    assert stored == {first[0][0].id, second[0][0].id}
    store.close()
