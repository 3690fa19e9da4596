"""Measurements of trained models, each with its interval, its seed and the protocol it follows."""

from typing import TYPE_CHECKING

from bruno.lazy import lazy_exports

if TYPE_CHECKING:
    from bruno.evaluation.anomaly import AnomalyResult as AnomalyResult
    from bruno.evaluation.anomaly import set_anomalies as set_anomalies
    from bruno.evaluation.correlation import correlated_dimensions as correlated_dimensions
    from bruno.evaluation.encoding import encode_dataset as encode_dataset
    from bruno.evaluation.encoding import encode_rotations as encode_rotations
    from bruno.evaluation.few_shot import FewShotResult as FewShotResult
    from bruno.evaluation.few_shot import few_shot_accuracy as few_shot_accuracy
    from bruno.evaluation.interval import Estimate as Estimate
    from bruno.evaluation.interval import estimate as estimate
    from bruno.evaluation.order_invariance import ExchangeabilityResult as ExchangeabilityResult
    from bruno.evaluation.order_invariance import exchangeability as exchangeability
    from bruno.evaluation.pose_estimation import PoseResult as PoseResult
    from bruno.evaluation.pose_estimation import pose as pose
    from bruno.evaluation.set_likelihood import LikelihoodResult as LikelihoodResult
    from bruno.evaluation.set_likelihood import likelihood as likelihood
    from bruno.evaluation.views import ReconstructionError as ReconstructionError
    from bruno.evaluation.views import ViewsGiven as ViewsGiven
    from bruno.evaluation.views import ViewsResult as ViewsResult
    from bruno.evaluation.views import novel_views as novel_views
    from bruno.few_shot import classify as classify
    from bruno.progress import ProgressCallback as ProgressCallback
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "AnomalyResult": "bruno.evaluation.anomaly",
            "ReconstructionError": "bruno.evaluation.views",
            "Estimate": "bruno.evaluation.interval",
            "ExchangeabilityResult": "bruno.evaluation.order_invariance",
            "FewShotResult": "bruno.evaluation.few_shot",
            "LikelihoodResult": "bruno.evaluation.set_likelihood",
            "PoseResult": "bruno.evaluation.pose_estimation",
            "ProgressCallback": "bruno.progress",
            "ViewsGiven": "bruno.evaluation.views",
            "ViewsResult": "bruno.evaluation.views",
            "classify": "bruno.few_shot",
            "correlated_dimensions": "bruno.evaluation.correlation",
            "encode_dataset": "bruno.evaluation.encoding",
            "encode_rotations": "bruno.evaluation.encoding",
            "estimate": "bruno.evaluation.interval",
            "exchangeability": "bruno.evaluation.order_invariance",
            "few_shot_accuracy": "bruno.evaluation.few_shot",
            "likelihood": "bruno.evaluation.set_likelihood",
            "novel_views": "bruno.evaluation.views",
            "pose": "bruno.evaluation.pose_estimation",
            "set_anomalies": "bruno.evaluation.anomaly",
        },
    )

__all__ = [
    "AnomalyResult",
    "Estimate",
    "ExchangeabilityResult",
    "FewShotResult",
    "LikelihoodResult",
    "PoseResult",
    "ProgressCallback",
    "ReconstructionError",
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
