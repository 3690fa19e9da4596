"""Learned once, forgotten exactly, seen by everyone."""

import sqlite3

import numpy as np
import pytest

from bruno.data.scans import ScanOptions
from bruno.serving.elements import content_of, draw_strokes
from tests.serving.conftest import API, CROSS, LINE, in_base64


def digests(client, project="letters"):
    found = client.get(f"{API}/{project}/classes").json()
    return {one["name"]: (one["count"], one["digest"]) for one in found}


def classified(client, element, project="letters", **more):
    body = {"elements": [element], **more}
    answer = client.post(f"{API}/{project}/classify", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()["results"][0]


def test_classes_are_learned_and_recognised(client, learn, glyphs):
    nothing = classified(client, in_base64(glyphs[0][0]))
    assert (nothing["classes"], nothing["none_of_these"]) == ([], 1.0)
    for label in range(4):
        learn(f"class {label}", *map(in_base64, glyphs[label][:3]))
    right = 0
    for label in range(4):
        for image in glyphs[label][3:]:
            result = classified(client, in_base64(image))
            total = sum(one["probability"] for one in result["classes"]) + result["none_of_these"]
            assert total == pytest.approx(1, abs=1e-9)
            right += result["classes"][0]["name"] == f"class {label}"
    assert right >= 7
    # Classes that it was not given are likelier none of these.
    unknown = [classified(client, in_base64(image)) for image in (*glyphs[4], *glyphs[5])]
    known = [classified(client, in_base64(g[4])) for g in glyphs[:4]]
    assert np.mean([one["none_of_these"] for one in unknown]) > np.mean(
        [one["none_of_these"] for one in known]
    )


def test_answers_are_those_of_the_library(client, learn, glyphs, model):
    import torch

    from bruno import Bruno

    learn("a", *map(in_base64, glyphs[0][:2]))
    learn("b", in_base64(glyphs[1][0]))
    result = classified(client, in_base64(glyphs[0][3]), with_densities=True)
    bruno = Bruno.from_pretrained(model.name)
    new = torch.from_numpy(glyphs[0][3])
    given = {"a": glyphs[0][:2], "b": glyphs[1][:1]}
    bruno.requires_grad_(False)
    for one in result["classes"]:
        expected = bruno.condition(torch.from_numpy(given[one["name"]])).log_prob(new)
        assert one["log_density"] == pytest.approx(float(expected), abs=2e-2)
    assert result["log_density"] == pytest.approx(float(bruno.prior().log_prob(new)), abs=2e-2)
    quick = classified(client, in_base64(glyphs[0][3]))
    assert quick["log_density"] is None
    for one, other in zip(result["classes"], quick["classes"], strict=True):
        assert one["log_ratio"] == pytest.approx(one["log_density"] - result["log_density"])
        assert (one["name"], other["log_density"]) == (other["name"], None)
        assert other["log_ratio"] == pytest.approx(one["log_ratio"], abs=1e-2)
        assert other["probability"] == pytest.approx(one["probability"], abs=1e-3)
    body = {"class": "a", "elements": [in_base64(glyphs[0][3])]}
    score = client.post(f"{API}/letters/score", json=body).json()
    assert score["log_density"][0] == pytest.approx(result["classes"][0]["log_density"], abs=1e-2)
    assert score["prior_log_density"][0] == pytest.approx(result["log_density"], abs=1e-2)


def test_forgetting_leaves_the_bits_of_a_class_that_never_had_it(client, learn, glyphs):
    learn("a", in_base64(glyphs[0][0]))
    before = digests(client)
    (second,) = learn("a", in_base64(glyphs[0][1]))
    assert digests(client) != before
    answer = client.delete(f"{API}/letters/examples/{second}").json()
    assert answer["forgotten"][0]["digest"] == before["a"][1] == digests(client)["a"][1]
    assert client.get(f"{API}/letters/verify").json()["is_equal"]
    assert client.delete(f"{API}/letters/examples/{second}").status_code == 404


@pytest.mark.parametrize("keeps", [True, False])
def test_any_order_of_learning_and_forgetting_has_one_end(client, glyphs, keeps):
    for name, order in (("one", [0, 1, 2, 3]), ("other", [3, 2, 0, 1])):
        client.post(API, json={"name": name, "keep_examples": keeps})
        for index in order:
            body = {"examples": [{"class": "a", **in_base64(glyphs[0][index])}]}
            assert client.post(f"{API}/{name}/examples", json=body).status_code == 201
        gone = {"examples": [in_base64(glyphs[0][2])]}
        assert client.post(f"{API}/{name}/forget", json=gone).status_code == 200
    assert digests(client, "one") == digests(client, "other")


def test_the_last_example_takes_its_class_with_it(client, learn):
    first, second = learn("cross", CROSS, CROSS)
    assert client.delete(f"{API}/letters/examples/{first}").json()["forgotten"][0]["count"] == 1
    left = client.delete(f"{API}/letters/examples/{second}").json()["forgotten"][0]
    assert (left["count"], left["digest"]) == (0, None)
    assert digests(client) == {}


def test_a_project_without_examples_needs_them_again(client, learn):
    client.post(API, json={"name": "bare", "keep_examples": False})
    (first, _) = learn("cross", CROSS, LINE, project="bare")
    assert client.get(f"{API}/bare/examples/{first}/image").status_code == 404
    refused = client.delete(f"{API}/bare/examples/{first}")
    assert refused.status_code == 409
    assert "send it to the forget endpoint" in refused.json()["detail"]
    wrong = client.post(f"{API}/bare/forget", json={"examples": [{"id": first, **LINE}]})
    assert wrong.status_code == 404
    right = client.post(f"{API}/bare/forget", json={"examples": [{"id": first, **CROSS}]})
    assert right.json()["forgotten"][0]["count"] == 1
    assert client.get(f"{API}/bare/verify").json()["is_equal"] is None


def test_all_or_nothing(client, learn):
    (known,) = learn("cross", CROSS)
    before = digests(client)
    body = {"examples": [{"id": known}, {"id": "0" * 32}]}
    assert client.post(f"{API}/letters/forget", json=body).status_code == 404
    twice = {"examples": [{"id": known}, {"id": known}]}
    assert client.post(f"{API}/letters/forget", json=twice).status_code == 404
    empty = {"examples": [{"class": "x", **CROSS}, {"class": "y", "strokes": [[]]}]}
    assert client.post(f"{API}/letters/examples", json=empty).status_code == 422
    assert digests(client) == before


def test_a_request_with_a_key_is_learned_once(client, learn):
    headers = {"Idempotency-Key": "monday"}
    first = learn("cross", CROSS, **headers)
    before = digests(client)
    assert learn("cross", CROSS, **headers) == first
    assert digests(client) == before
    other = {"examples": [{"class": "cross", **LINE}]}
    refused = client.post(f"{API}/letters/examples", json=other, headers=headers)
    assert refused.status_code == 409
    more = {"examples": [{"class": "cross", **CROSS}] * 2}
    # Forgotten, it stays forgotten, though the key is used again.
    client.delete(f"{API}/letters/examples/{first[0]}")
    assert learn("cross", CROSS, **headers) == first
    assert digests(client) == {}
    refused = client.post(f"{API}/letters/examples", json=more, headers=headers)
    assert refused.status_code == 409


def test_answers_are_in_the_order_of_the_examples(client):
    body = {"examples": [{"class": name, **CROSS} for name in ("b", "a", "b")]}
    answer = client.post(f"{API}/letters/examples", json=body).json()
    assert [one["class"] for one in answer["examples"]] == ["b", "a", "b"]


def test_classes_are_forgotten_whole(client, learn):
    learn("cross", CROSS, LINE)
    learn("line", LINE)
    (cross, _) = client.get(f"{API}/letters/classes").json()
    assert client.delete(f"{API}/letters/classes/{cross['id']}").json()["erased"]
    assert [*digests(client)] == ["line"]
    assert len(client.get(f"{API}/letters/examples").json()) == 1
    assert client.delete(f"{API}/letters/classes/{cross['id']}").status_code == 404


def test_what_is_forgotten_is_in_no_file_of_the_store(client, learn, tmp_path):
    learn("line", LINE)
    (example,) = learn("cross", CROSS, **{"Idempotency-Key": "k"})
    content = content_of(draw_strokes(CROSS["strokes"], 28, ScanOptions(), "strokes"))
    row = sqlite3.connect(tmp_path / "bruno.db").execute(
        "SELECT content, latent, content_digest, latent_digest FROM example WHERE id = ?",
        (example,),
    )
    content_there, latent, *texts = row.fetchone()
    assert content_there == content

    def traces():
        files = b"".join(file.read_bytes() for file in tmp_path.glob("bruno.db*"))
        # Long rows are spread over pages, of which each is looked for.
        parts = [content[100:300], latent[:500], latent[-500:], *(t.encode() for t in texts)]
        return [part in files for part in parts]

    assert all(traces())
    assert client.delete(f"{API}/letters/examples/{example}").json()["erased"] is True
    assert not any(traces())


def test_two_servers_share_a_store(serve, client, learn):
    other = serve()
    learn("cross", CROSS)
    assert classified(other, CROSS)["classes"][0]["name"] == "cross"
    body = {"examples": [{"class": "line", **LINE}]}
    other.post(f"{API}/letters/examples", json=body)
    assert {one["name"] for one in classified(client, CROSS)["classes"]} == {"cross", "line"}
    (example, *_) = client.get(f"{API}/letters/examples").json()
    other.delete(f"{API}/letters/examples/{example['id']}")
    assert {one["name"] for one in classified(client, CROSS)["classes"]} == {"cross"}


def test_the_prior_of_none_of_the_classes_is_a_setting(client, learn):
    learn("cross", CROSS)
    low, high = (classified(client, LINE, unknown_prior=p)["none_of_these"] for p in (0.01, 0.9))
    assert low < high
    client.patch(f"{API}/letters", json={"unknown_prior": 0.9})
    assert classified(client, LINE)["none_of_these"] == pytest.approx(high)
