"""Measurements of trained models, each with its interval, its seed and the protocol it follows."""

from bruno.evaluation.anomaly import AnomalyResult, set_anomalies
from bruno.evaluation.correlation import correlated_dimensions
from bruno.evaluation.encoding import EncodedDataset, encode_dataset, encode_rotations
from bruno.evaluation.exchangeability import ExchangeabilityResult, exchangeability
from bruno.evaluation.few_shot import FewShotResult, classify, few_shot_accuracy
from bruno.evaluation.interval import Estimate, estimate
from bruno.evaluation.likelihood import LikelihoodResult, likelihood
from bruno.evaluation.progress import ProgressCallback

__all__ = [
    "AnomalyResult",
    "EncodedDataset",
    "Estimate",
    "ExchangeabilityResult",
    "FewShotResult",
    "LikelihoodResult",
    "ProgressCallback",
    "classify",
    "correlated_dimensions",
    "encode_dataset",
    "encode_rotations",
    "estimate",
    "exchangeability",
    "few_shot_accuracy",
    "likelihood",
    "set_anomalies",
]
