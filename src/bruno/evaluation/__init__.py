"""Measurements of trained models, each with its interval, its seed and the protocol it follows."""

from bruno.evaluation.anomaly import AnomalyResult, set_anomalies
from bruno.evaluation.correlation import correlated_dimensions
from bruno.evaluation.encoding import EncodedDataset, encode_dataset, encode_rotations
from bruno.evaluation.exchangeability import ExchangeabilityResult, exchangeability
from bruno.evaluation.few_shot import FewShotResult, classify, few_shot_accuracy
from bruno.evaluation.interval import Estimate, estimate
from bruno.evaluation.likelihood import LikelihoodResult, likelihood
from bruno.evaluation.pose import PoseResult, pose
from bruno.evaluation.progress import ProgressCallback
from bruno.evaluation.views import Closeness, ViewsGiven, ViewsResult, novel_views

__all__ = [
    "AnomalyResult",
    "Closeness",
    "EncodedDataset",
    "Estimate",
    "ExchangeabilityResult",
    "FewShotResult",
    "LikelihoodResult",
    "PoseResult",
    "ProgressCallback",
    "ViewsGiven",
    "ViewsResult",
    "classify",
    "correlated_dimensions",
    "encode_dataset",
    "encode_rotations",
    "estimate",
    "exchangeability",
    "few_shot_accuracy",
    "likelihood",
    "novel_views",
    "pose",
    "set_anomalies",
]
