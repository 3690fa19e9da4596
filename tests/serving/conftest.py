"""A server in this process, and elements to send it."""

import base64
import io

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from bruno.data import load_dataset
from bruno.serving.app import create_app
from bruno.serving.model import load_model
from bruno.serving.settings import ServerSettings

API = "/api/v1/projects"
CROSS = {"strokes": [[[0, 0], [10, 10]], [[0, 10], [10, 0]]]}
LINE = {"strokes": [[[0, 0], [1, 10]]]}


def in_base64(image):
    """Return an image, uint8 (1, 28, 28), as the body of an element."""
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(image[0], dtype=np.uint8)).save(buffer, "PNG")
    return {"image": base64.b64encode(buffer.getvalue()).decode(), "prepare": "none"}


@pytest.fixture(scope="session")
def model():
    return load_model(ServerSettings())


@pytest.fixture(scope="session")
def glyphs():
    """Six classes of five images each, uint8 (6, 5, 1, 28, 28)."""
    data = load_dataset("glyphs", "test")
    return [data.images[data.indices_of(label)[:5]].numpy() for label in range(6)]


@pytest.fixture
def serve(tmp_path, model):
    """Return a function of settings that returns a client of a server with them."""
    clients = []

    def serve(served=model, **settings):
        settings = {"store": f"sqlite:///{tmp_path}/bruno.db"} | settings
        app = create_app(ServerSettings(**settings), served)
        client = TestClient(app, base_url="http://localhost", raise_server_exceptions=True)
        clients.append(client.__enter__())
        return client

    yield serve
    for client in clients:
        client.__exit__(None, None, None)


@pytest.fixture
def client(serve):
    """A client of a server with an empty project ``letters``."""
    client = serve()
    assert client.post(API, json={"name": "letters"}).status_code == 201
    return client


@pytest.fixture
def learn(client):
    """Return a function that lets a class learn elements and returns their ids."""

    def learn(name, *elements, project="letters", **headers):
        body = {"examples": [{"class": name, **element} for element in elements]}
        answer = client.post(f"{API}/{project}/examples", json=body, headers=headers)
        assert answer.status_code == 201, answer.text
        return [one["id"] for one in answer.json()["examples"]]

    return learn
