"""What scikit-learn asks of every estimator."""

from typing import Any

from sklearn.utils.estimator_checks import parametrize_with_checks

from bruno import BrunoClassifier, BrunoDensity, BrunoOutlierDetector


def expected_failures(estimator: Any) -> dict[str, str]:
    if estimator.get_params()["flow"] != "dense":
        return {}
    reason = "a dense flow is trained on every element alike, however often it counts"
    return {"check_sample_weight_equivalence_on_dense_data": reason}


@parametrize_with_checks(
    [
        BrunoClassifier(),
        BrunoClassifier(process="gaussian", flow="diagonal"),
        BrunoClassifier(flow="dense", steps=2, temperature=1.0),
        BrunoDensity(),
        BrunoOutlierDetector(),
    ],
    expected_failed_checks=expected_failures,
)
def test_scikit_learn(estimator: Any, check: Any) -> None:
    check(estimator)
