"""``bruno serve --workers 2``: processes that share a store, and what happens if none can start."""

import subprocess
import sys

import httpx
import pytest

from tests.serving.conftest import API, CROSS, LINE
from tests.serving.page import Server

SECONDS = 60


@pytest.fixture
def server(tmp_path):
    server = Server(f"sqlite:///{tmp_path}/bruno.db", "--workers", "2", "--views", "false")
    yield server
    server.stop()


def learned_here(client):
    """Return how many examples the process at the other end of a connection has learned."""
    lines = client.get("/metrics").text.splitlines()
    return next(float(one.split()[1]) for one in lines if one.startswith("bruno_examples_learned_"))


def names(client):
    answer = client.post(f"{API}/letters/classify", json={"elements": [CROSS]})
    assert answer.status_code == 200, answer.text
    return {one["name"] for one in answer.json()["results"][0]["classes"]}


def connect(server):
    """Return a client that keeps one connection, and so speaks to one process."""
    limits = httpx.Limits(max_connections=1)
    return httpx.Client(base_url=server.url, limits=limits, timeout=SECONDS)


def test_two_processes_learn_and_forget_together(server):
    one = connect(server)
    one.post(API, json={"name": "letters"}).raise_for_status()
    body = {"examples": [{"class": "cross", **CROSS}, {"class": "line", **LINE}]}
    learned = one.post(f"{API}/letters/examples", json=body).json()["examples"]
    assert learned_here(one) == 2

    others = [connect(server) for _ in range(50)]
    other = next(client for client in others if learned_here(client) == 0)
    assert names(other) == names(one) == {"cross", "line"}
    answer = other.delete(f"{API}/letters/examples/{learned[1]['id']}").json()
    assert [(one["class"], one["count"]) for one in answer["forgotten"]] == [("line", 0)]
    assert names(one) == names(other) == {"cross"}
    assert one.get(f"{API}/letters/verify").json()["is_equal"]
    for client in (one, *others):
        client.close()


def test_processes_that_cannot_start_are_one_error(tmp_path):
    command = [sys.executable, "-m", "bruno.cli", "serve", "--port", "0", "--workers", "2"]
    store = f"sqlite:///{tmp_path}/bruno.db"
    ended = subprocess.run(
        [*command, "--model", str(tmp_path / "nothing"), "--store", store],
        capture_output=True, text=True, timeout=5 * SECONDS, check=False,
    )  # fmt: skip
    assert ended.returncode == 2
    assert "bruno: error: model: " in ended.stderr
    assert "Traceback" not in ended.stderr
