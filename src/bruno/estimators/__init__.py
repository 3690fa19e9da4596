"""scikit-learn estimators: new classes in microseconds, exact densities and exact forgetting."""

from typing import TYPE_CHECKING

from bruno.lazy import lazy_exports

if TYPE_CHECKING:
    from bruno.estimators.classifier import BrunoClassifier as BrunoClassifier
    from bruno.estimators.density import BrunoDensity as BrunoDensity
    from bruno.estimators.density import BrunoOutlierDetector as BrunoOutlierDetector
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "BrunoClassifier": "bruno.estimators.classifier",
            "BrunoDensity": "bruno.estimators.density",
            "BrunoOutlierDetector": "bruno.estimators.density",
        },
    )

__all__ = [
    "BrunoClassifier",
    "BrunoDensity",
    "BrunoOutlierDetector",
]
