"""scikit-learn estimators: new classes in microseconds, exact densities and exact forgetting."""

from bruno.estimators.classifier import BrunoClassifier
from bruno.estimators.density import BrunoDensity, BrunoOutlierDetector

__all__ = ["BrunoClassifier", "BrunoDensity", "BrunoOutlierDetector"]
