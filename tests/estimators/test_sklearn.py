"""What scikit-learn asks of every estimator."""

from typing import Any

from sklearn.utils.estimator_checks import parametrize_with_checks

from bruno import BrunoClassifier, BrunoDensity, BrunoOutlierDetector


@parametrize_with_checks(
    [
        BrunoClassifier(),
        BrunoClassifier(process="gaussian", flow="diagonal"),
        BrunoClassifier(flow="dense", steps=2, temperature=1.0),
        BrunoDensity(),
        BrunoOutlierDetector(),
    ]
)
def test_scikit_learn(estimator: Any, check: Any) -> None:
    check(estimator)
