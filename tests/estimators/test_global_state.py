"""What torch takes for its defaults does not matter to the estimators."""

import contextlib

import numpy as np
import pytest
import torch

from bruno import BrunoClassifier, BrunoDensity, BrunoOutlierDetector
from tests.estimators.iris import X, Y

LABELS = {BrunoClassifier: {"y": [0, 7]}, BrunoDensity: {}, BrunoOutlierDetector: {}}


@contextlib.contextmanager
def defaults(device, dtype):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            yield
    finally:
        torch.set_default_dtype(before)


def used(kind, folder, **parameters):
    """All that an estimator returns from its fit to its second life."""
    estimator = kind(random_state=0, **parameters).fit(X, Y)
    estimator.partial_fit(X[:2] + 1, **LABELS[kind]).partial_fit(X[:2], **LABELS[kind])
    estimator.forget(X[:2] + 1, **LABELS[kind])
    estimator.save(folder)
    results = []
    for each in (estimator, kind.load(folder)):
        results += [
            each.score_samples(X),
            each.rank(X[:3], X, top_k=5)[1],
            each.evidence_.mean.cpu(),
        ]
        if hasattr(each, "predict_proba"):
            results.append(each.predict_proba(X))
        if hasattr(each, "sample"):
            results.append(each.sample(*LABELS[kind].get("y", [])[:1], n=3))
    return results


@pytest.mark.parametrize("device", ["meta", "cpu", "cuda"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("kind", "parameters"),
    [
        (BrunoClassifier, {"unknown_prior": 0.1}),
        (BrunoClassifier, {"flow": "diagonal", "process": "gaussian"}),
        (BrunoClassifier, {"flow": "dense", "steps": 2}),
        (BrunoDensity, {}),
        (BrunoOutlierDetector, {"flow": "diagonal"}),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_neither_the_default_device_nor_the_default_type_matters(
    kind, parameters, device, dtype, tmp_path
):
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    expected = used(kind, tmp_path / "plain", **parameters)
    with defaults(device, dtype):
        found = used(kind, tmp_path / "other", **parameters)
    for ours, plain in zip(found, expected, strict=True):
        np.testing.assert_array_equal(np.asarray(ours), np.asarray(plain))
