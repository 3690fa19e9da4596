"""The store on a real PostgreSQL server, if its programs are installed."""

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from bruno.serving.store import Store
from bruno.serving.tables import metadata
from tests.serving.conftest import API, CROSS, LINE
from tests.serving.postgres import Postgres, programs


@pytest.fixture(scope="module")
def postgres():
    if programs() is None:
        pytest.skip("no PostgreSQL (apt-get install postgresql)")
    server = Postgres()
    yield server
    server.remove()


def learn(client, name, element, **headers):
    body = {"examples": [{"class": name, **element}]}
    return client.post(f"{API}/letters/examples", json=body, headers=headers)


def counts(client):
    found = client.get(f"{API}/letters/classes").json()
    return {one["name"]: one["count"] for one in found}


def test_postgresql(postgres, serve, monkeypatch):
    """One test, for a server takes a second to start."""
    store = Store(postgres.url)
    with store.reading() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    store.close()

    one, other = serve(store=postgres.url), serve(store=postgres.url)
    assert one.post(API, json={"name": "letters"}).status_code == 201
    assert other.post(API, json={"name": "letters"}).status_code == 409
    for client, element in ((one, CROSS), (other, CROSS), (one, LINE)):
        assert learn(client, "cross", element).status_code == 201
    key = {"Idempotency-Key": "k"}
    assert not learn(one, "line", LINE, **key).json()["replayed"]
    assert learn(other, "line", LINE, **key).json()["replayed"]
    assert counts(one) == counts(other) == {"cross": 3, "line": 1}
    body = {"elements": [CROSS]}
    results = [c.post(f"{API}/letters/classify", json=body).json() for c in (one, other)]
    assert results[0] == results[1]
    gone = other.post(f"{API}/letters/forget", json={"examples": [LINE | {"class": "cross"}]})
    assert gone.json()["forgotten"][0]["count"] == 2
    assert gone.json()["erased"] is None
    assert one.get(f"{API}/letters/verify").json()["is_equal"]
    data = one.get(f"{API}/letters/export").content
    assert other.post(f"{API}/copy/import", content=data).status_code == 201

    # Restarted at once, its old connections are replaced.
    postgres.stop()
    postgres.start()
    assert learn(one, "cross", LINE).status_code == 201
    # While it is away requests are refused, and later ones are not.
    monkeypatch.setattr("bruno.serving.store._FIRST_PAUSE", 0.001)
    postgres.stop()
    refused = learn(one, "cross", LINE)
    assert refused.status_code == 503
    assert refused.headers["retry-after"] == "1"
    assert one.get("/health").status_code == 503
    postgres.start()
    assert one.get("/health").status_code == 200
    assert learn(one, "cross", LINE).status_code == 201
    assert counts(other) == {"cross": 4, "line": 1}
    assert other.get(f"{API}/letters/verify").json()["is_equal"]
