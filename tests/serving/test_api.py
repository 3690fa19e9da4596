"""The rest of the API: samples, ranks, projects as files, refusals, figures."""

import base64
import io
import json
from datetime import UTC, datetime

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load, save
from sklearn.datasets import load_wine

from bruno import BrunoClassifier, UserError
from bruno.serving.model import load_model
from bruno.serving.settings import ServerSettings, token_for
from tests.serving.conftest import API, CROSS, LINE, in_base64

JSON = {"content-type": "application/json"}


def test_samples_are_images_of_the_model(client, learn):
    learn("cross", CROSS, CROSS)
    body = {"class": "cross", "count": 3, "latent_scale": 0.5, "seed": 1}
    answer = client.post(f"{API}/letters/sample", json=body).json()
    images = [Image.open(io.BytesIO(base64.b64decode(one))) for one in answer["images"]]
    assert [image.size for image in images] == [(28, 28)] * 3
    assert client.post(f"{API}/letters/sample", json=body).json() == answer
    given = {"given": [CROSS], "count": 1, "seed": 2}
    assert len(client.post(f"{API}/letters/sample", json=given).json()["images"]) == 1
    assert client.post(f"{API}/letters/sample", json={"class": "no"}).status_code == 404


def test_a_model_that_does_not_draw_says_so(serve):
    client = serve(load_model(ServerSettings(model="glyphs")))
    client.post(API, json={"name": "p"})
    model = client.get("/api/v1/model").json()
    answer = client.post(f"{API}/p/sample", json={"count": 1})
    assert answer.status_code == (200 if model["draws"] else 409)


def test_a_corpus_is_ranked_by_similarity(client, glyphs):
    body = {
        "handful": [in_base64(image) for image in glyphs[0][:3]],
        "corpus": [in_base64(glyphs[label][4]) for label in (3, 0, 1)],
    }
    answer = client.post(f"{API}/letters/rank", json=body).json()
    assert answer["order"][0] == 1
    assert answer["scores"] == sorted(answer["scores"], reverse=True)


def test_a_project_is_one_file(client, learn):
    learn("cross", CROSS, LINE)
    learn("line", LINE)
    data = client.get(f"{API}/letters/export").content
    copied = client.post(f"{API}/copy/import", content=data)
    assert copied.status_code == 201, copied.text
    assert copied.json()["examples"] == 3
    classes = [
        [(one["name"], one["digest"]) for one in client.get(f"{API}/{name}/classes").json()]
        for name in ("letters", "copy")
    ]
    assert classes[0] == classes[1]
    assert client.get(f"{API}/copy/verify").json()["is_equal"]
    assert client.post(f"{API}/copy/import", content=data).status_code == 409


@pytest.mark.parametrize("keeps", [True, False])
def test_a_damaged_or_changed_file_is_refused_whole(client, learn, keeps):
    client.post(API, json={"name": "p", "keep_examples": keeps})
    learn("cross", CROSS, LINE, project="p")
    data = client.get(f"{API}/p/export").content
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])["__metadata__"]
    tensors = load(data)
    project = json.loads(header["bruno_project"])
    changed = {
        "sums": save({**tensors, "sums": tensors["sums"] + 1}, header),
        "without": save({k: t for k, t in tensors.items() if k != "sums"}, header),
        "version": save(tensors, {"bruno_project": json.dumps(project | {"format_version": 9})}),
        "classes": save(tensors, {"bruno_project": json.dumps(project | {"classes": []})}),
        "dim": save(tensors, {"bruno_project": json.dumps(project | {"dim": 7})}),
        "no header": save(tensors),
        "short": data[: len(data) // 2],
        "text": b"not a project",
        "nothing": b"",
    }
    if keeps:
        content = tensors["content"].copy()
        content[0, 0] ^= 1
        changed["content"] = save({**tensors, "content": content}, header)
    for name, body in changed.items():
        answer = client.post(f"{API}/copy/import", content=body)
        assert answer.status_code == 422, (name, answer.text)
    other = project | {"model_sha256": "0" * 64}
    foreign = save(tensors, {"bruno_project": json.dumps(other)})
    assert client.post(f"{API}/copy/import", content=foreign).status_code == 409
    assert client.get(f"{API}/copy").status_code == 404


@pytest.mark.parametrize("covariance", ["shared", "own"])
def test_a_saved_classifier_is_served_with_its_classes(tmp_path, serve, covariance):
    rows, y = load_wine(return_X_y=True)
    classifier = BrunoClassifier(temperature=2.0, unknown_prior=0.05, covariance=covariance)
    classifier.fit(rows[::2], y[::2])
    classifier.save(tmp_path / "wine")
    client = serve(load_model(ServerSettings(classifier=str(tmp_path / "wine"))))
    elements = [{"vector": row.tolist()} for row in rows[1:60:4]]
    body = {"elements": elements, "unknown_prior": 0.05}
    results = client.post(f"{API}/classifier/classify", json=body).json()["results"]
    expected = classifier.predict_proba(rows[1:60:4])
    for row, result in zip(expected, results, strict=True):
        assert result["none_of_these"] == pytest.approx(row[-1], abs=1e-4)
        assert result["classes"][0]["probability"] == pytest.approx(row[:-1].max(), abs=1e-4)
    handful, densities = {"handful": elements[:2], "corpus": elements}, {"with_densities": True}
    scores = client.post(f"{API}/classifier/rank", json=handful).json()["scores"]
    np.testing.assert_allclose(scores, classifier.rank(rows[1:6:4], rows[1:60:4])[1], atol=1e-4)
    results = client.post(f"{API}/classifier/classify", json=body | densities).json()["results"]
    found = [result["log_density"] for result in results]
    np.testing.assert_allclose(found, classifier.score_samples(rows[1:60:4]), atol=1e-6)
    new = {"examples": [{"class": "new", "vector": (rows[0] + 9).tolist()}]}
    learned = client.post(f"{API}/classifier/examples", json=new).json()["examples"][0]
    assert learned["image"] is None
    verified = client.get(f"{API}/classifier/verify").json()
    assert verified["is_equal"]
    assert [one["count"] for one in verified["classes"]] == [*np.bincount(y[::2]), 1]
    more = {"examples": [{"class": "0", "vector": rows[1].tolist()}]}
    before, classifier_classes = verified["classes"][0]["digest"], f"{API}/classifier/classes"
    learned = client.post(f"{API}/classifier/examples", json=more).json()["examples"][0]
    assert client.get(classifier_classes).json()[0]["digest"] != before
    client.delete(f"{API}/classifier/examples/{learned['id']}")
    assert client.get(classifier_classes).json()[0]["digest"] == before
    asked = {"class": "0", "count": 2, "latent_scale": 0.0}
    first, second = client.post(f"{API}/classifier/sample", json=asked).json()["vectors"]
    assert len(first) == 13
    assert first == second
    data = client.get(f"{API}/classifier/export").content
    assert client.post(f"{API}/copy/import", content=data).status_code == 201
    for wrong in ({"vector": [1.0]}, CROSS, {"vector": [1e300] * 13}):
        answer = client.post(f"{API}/classifier/classify", json={"elements": [wrong]})
        assert answer.status_code == 422, answer.text


def test_another_model_is_refused(client, serve):
    other = serve(load_model(ServerSettings(model="glyphs")))
    assert other.get(f"{API}/letters").json()["is_servable"] is False
    for path, body in (
        ("examples", {"examples": [{"class": "a", **CROSS}]}),
        ("classify", {"elements": [CROSS]}),
    ):
        answer = other.post(f"{API}/letters/{path}", json=body)
        assert answer.status_code == 409
        assert "'omniglot" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("element", "reason"),
    [
        ({}, "exactly one of image, strokes and vector"),
        (CROSS | {"vector": [1.0]}, "exactly one of image, strokes and vector"),
        ({"image": "%%%"}, "elements.0.image: expected a file in base64"),
        ({"image": "aGVsbG8="}, "elements.0.image: expected a file of PNG, JPEG"),
        ({"vector": [1.0]}, "elements.0.vector: expected an image"),
        ({"strokes": [[]]}, "elements.0.strokes: expected at least one point"),
        ({"strokes": [[[0, 1e9]]]}, "expected a number from -1e+06 to 1e+06"),
        ({"strokes": [[[0, 0]] * 4097]}, "at most 4096"),
        ({"strokes": [[[0, "a"]]]}, "elements.0.strokes.0.0.1: Input should be a valid number"),
        (CROSS | {"prepare": "dance"}, "'auto', 'scan' or 'none', got 'dance'"),
    ],
)
def test_wrong_elements_are_refused_with_a_reason(client, element, reason):
    answer = client.post(f"{API}/letters/classify", json={"elements": [element]})
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert reason in answer.json()["detail"]


def test_bodies_that_are_no_json_are_refused_with_a_reason(client):
    cut = client.post(API, content='{"name": ', headers={"content-type": "application/json"})
    assert cut.status_code == 400
    assert cut.json()["detail"] == "body: expected JSON, got Expecting value at character 9"
    form = client.post(API, data={"name": "letters"})
    assert form.status_code == 422
    assert "the header Content-Type: application/json" in form.json()["detail"]


def test_times_are_in_utc(client, learn):
    learn("cross", CROSS)
    for answer in (
        client.get(f"{API}/letters").json(),
        *client.get(f"{API}/letters/examples").json(),
    ):
        age = datetime.now(UTC) - datetime.fromisoformat(answer["created"])
        assert abs(age.total_seconds()) < 600


@pytest.mark.parametrize("name", ["", " ", "a\0b", "\x1b[0m", "x" * 201, "\ud800"])
def test_names_are_printable(client, name):
    body = json.dumps({"examples": [{"class": name, **CROSS}]})
    answer = client.post(f"{API}/letters/examples", content=body, headers=JSON)
    assert answer.status_code == 422


def png_header(width, height):
    import struct
    import zlib

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = zlib.compress(bytes(2**20))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    "data",
    [
        png_header(60_000, 60_000),
        png_header(4001, 4000),
        png_header(0, 0),
        png_header(100, 100)[:60],
        b"GIF89a" + bytes(10),
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        b"\xff\xd8\xff\xe0" + bytes(100),
    ],
)
def test_bombs_and_broken_pictures_are_refused(client, data):
    element = {"image": base64.b64encode(data).decode()}
    answer = client.post(f"{API}/letters/classify", json={"elements": [element]})
    assert answer.status_code == 422, answer.text


def test_a_scan_is_prepared(client, learn):
    learn("cross", CROSS)
    page = Image.new("L", (120, 90), 230)
    for i in range(30, 70):
        for width in range(3):
            page.putpixel((i + width, i), 30)
            page.putpixel((100 - i + width, i), 30)
    buffer = io.BytesIO()
    page.save(buffer, "JPEG")
    url = "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
    body = {"elements": [{"image": url}], "with_images": True}
    (result,) = client.post(f"{API}/letters/classify", json=body).json()["results"]
    assert result["classes"][0]["probability"] > 0.5
    assert Image.open(io.BytesIO(base64.b64decode(result["image"]))).size == (28, 28)
    blank = io.BytesIO()
    Image.new("L", (50, 50), 255).save(blank, "PNG")
    element = {"image": base64.b64encode(blank.getvalue()).decode()}
    answer = client.post(f"{API}/letters/classify", json={"elements": [element]})
    assert answer.status_code == 422


def test_large_bodies_are_refused_before_they_are_held(serve):
    client = serve(max_body=1)
    big = json.dumps({"elements": [{"image": "A" * 2**20}]})
    assert client.post(f"{API}/p/classify", content=big, headers=JSON).status_code == 413

    def chunks():  # without a length
        for _ in range(64):
            yield b" " * 2**16

    assert client.post(f"{API}/p/classify", content=chunks(), headers=JSON).status_code == 413


def test_too_many_requests_are_refused(serve):
    client = serve(max_rate=3)
    statuses = [client.get("/version").status_code for _ in range(30)]
    assert 429 in statuses
    assert statuses[0] == 200


def test_other_names_are_refused(serve):
    client = serve(allowed_hosts=("letters.example",))
    for host, status in (
        ("letters.example:443", 200),
        ("localhost:8000", 200),
        ("[::1]:8000", 200),
        ("evil.example", 421),
        ("localhost.evil.example", 421),
    ):
        assert client.get("/version", headers={"host": host}).status_code == status, host


def test_everything_but_the_page_needs_the_token(serve, monkeypatch):
    monkeypatch.setenv("BRUNO_TOKEN", "a-very-long-token")
    client = serve(host="0.0.0.0")  # noqa: S104
    paths = client.get("/openapi.json", headers={"authorization": "Bearer a-very-long-token"})
    for path in paths.json()["paths"]:
        if path != "/health":
            assert client.get(path).status_code == 401, path
    assert client.get("/openapi.json").status_code == 401
    assert client.get("/health").status_code == client.get("/").status_code == 200
    for wrong in ("Bearer x", "Bearer", "Basic a-very-long-token", "Bearer a-very-long-token2"):
        assert client.get("/version", headers={"authorization": wrong}).status_code == 401
    right = {"authorization": "bearer a-very-long-token"}
    assert client.get("/version", headers=right).status_code == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "letters.example"])  # noqa: S104
def test_nothing_listens_beyond_this_machine_without_a_token(host, monkeypatch):
    monkeypatch.delenv("BRUNO_TOKEN", raising=False)
    with pytest.raises(UserError, match="put a token into the environment variable BRUNO_TOKEN"):
        token_for(host)
    monkeypatch.setenv("BRUNO_TOKEN", "short")
    with pytest.raises(UserError, match="BRUNO_TOKEN: expected at least 16 characters, got 5"):
        token_for(host)


def test_figures_for_prometheus(client, learn):
    learn("cross", CROSS)
    client.post(f"{API}/letters/classify", json={"elements": [CROSS]})
    client.get("/nothing-of-the-kind")
    text = client.get("/metrics").text
    assert "bruno_examples_learned_total 1.0" in text
    path = 'path="/api/v1/projects/{project}/classify"'
    assert f'bruno_requests_total{{method="POST",{path},status="200"}} 1.0' in text
    assert "bruno_pass_requests_count" in text
    assert "nothing-of-the-kind" not in text


def test_the_description_has_an_example_of_every_body(client):
    description = client.get("/openapi.json").json()
    assert description["openapi"].startswith("3.1")
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            assert operation.get("description"), (method, path)
    examples = description["components"]["schemas"]["LearnInput"]
    assert examples["properties"]["examples"]


def test_views_of_an_object(client):
    photo = client.get("/api/v1/views/example", params={"number": 3}).content
    body = {"image": base64.b64encode(photo).decode(), "azimuths": [0, 45]}
    answer = client.post("/api/v1/views", json=body).json()
    sizes = [Image.open(io.BytesIO(base64.b64decode(one))).size for one in answer["images"]]
    assert len(sizes) == 2
    assert client.post("/api/v1/views", json=body).json() == answer


def test_views_can_be_left_out(serve):
    client = serve(views=False)
    body = {"image": "AAAA", "azimuths": [0]}
    assert client.post("/api/v1/views", json=body).status_code == 404
