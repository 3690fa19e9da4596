"""Requests made from the OpenAPI description, right and wrong ones: none is a server error."""

import warnings

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from tests.fuzzing import fuzz_settings
from tests.serving.conftest import API, CROSS

schemathesis = pytest.importorskip("schemathesis", reason="no schemathesis (pip install)")


def test_no_request_is_a_server_error(serve):
    client = serve(max_rate=10**6, views=False)
    client.post(API, json={"name": "my-letters"})
    body = {"examples": [{"class": "alpha", **CROSS}]}
    client.post(f"{API}/my-letters/examples", json=body)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        schema = schemathesis.openapi.from_asgi(
            "/openapi.json", client.app, headers={"host": "localhost"}
        )
        operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) > 20
    for operation in operations:

        @settings(
            fuzz_settings(4),
            database=None,
            derandomize=True,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy())
        def check(case):
            answer = case.call(session=None, headers={"host": "localhost"})
            assert answer.status_code < 500, (case.method, case.path, case.body, answer.text)
            allowed = case.operation.definition.raw["responses"]
            assert str(answer.status_code) in allowed or answer.status_code == 405

        check()
