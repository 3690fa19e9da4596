"""Exchangeable sequence models: give a few examples, get exact densities, samples and classes.

After BRUNO (Korshunova et al., NeurIPS 2018). The main objects are :class:`Bruno`, a flow and an
exchangeable process, and :class:`Predictive`, what a model expects after seeing a set.
"""

from bruno.errors import CheckpointError, MissingDataError, UserError
from bruno.estimators import BrunoClassifier, BrunoDensity, BrunoOutlierDetector
from bruno.evaluation import few_shot
from bruno.evidence import Evidence
from bruno.flows import RealNVP
from bruno.model import Bruno
from bruno.predictive import Predictive
from bruno.processes import ExchangeableGaussian, ExchangeableProcess, ExchangeableStudentT

__all__ = [
    "Bruno",
    "BrunoClassifier",
    "BrunoDensity",
    "BrunoOutlierDetector",
    "CheckpointError",
    "Evidence",
    "ExchangeableGaussian",
    "ExchangeableProcess",
    "ExchangeableStudentT",
    "MissingDataError",
    "Predictive",
    "RealNVP",
    "UserError",
    "few_shot",
]
