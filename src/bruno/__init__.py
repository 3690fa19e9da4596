"""Exchangeable sequence models: give a few examples, get exact densities, samples and classes.

After BRUNO (Korshunova et al., NeurIPS 2018). The main objects are :class:`Bruno`, a flow and an
exchangeable process, and :class:`Predictive`, the distribution of the next element given a set.
Where to start:

- Images: ``Bruno.from_pretrained("omniglot")`` and ``few_shot.classify``; data in ``bruno.data``.
- Tables: ``BrunoClassifier``, ``BrunoDensity`` and ``BrunoOutlierDetector``, as in scikit-learn.
- A model of your own: ``Bruno(RealNVP(event_shape), ExchangeableGaussian(dim))``, and the command
  ``bruno train``.

Example:
    >>> import torch
    >>> from bruno import Bruno, ExchangeableGaussian, RealNVP
    >>> model = Bruno(RealNVP((4,)), ExchangeableGaussian(4))
    >>> predictive = model.condition(torch.randn(10, 4))
    >>> predictive.sample(3).shape, predictive.log_prob(torch.zeros(2, 4)).shape
    (torch.Size([3, 4]), torch.Size([2]))
"""

from typing import TYPE_CHECKING

from bruno.lazy import lazy_exports

if TYPE_CHECKING:
    from bruno import few_shot as few_shot
    from bruno.errors import CheckpointError as CheckpointError
    from bruno.errors import MissingDataError as MissingDataError
    from bruno.errors import UserError as UserError
    from bruno.estimators.classifier import BrunoClassifier as BrunoClassifier
    from bruno.estimators.density import BrunoDensity as BrunoDensity
    from bruno.estimators.density import BrunoOutlierDetector as BrunoOutlierDetector
    from bruno.evidence import Evidence as Evidence
    from bruno.flows import Flow as Flow
    from bruno.flows import FlowTransform as FlowTransform
    from bruno.flows import RealNVP as RealNVP
    from bruno.model import Bruno as Bruno
    from bruno.predictive import Predictive as Predictive
    from bruno.processes import ExchangeableGaussian as ExchangeableGaussian
    from bruno.processes import ExchangeableProcess as ExchangeableProcess
    from bruno.processes import ExchangeableStudentT as ExchangeableStudentT
    from bruno.version import __version__ as __version__
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "Bruno": "bruno.model",
            "BrunoClassifier": "bruno.estimators.classifier",
            "BrunoDensity": "bruno.estimators.density",
            "BrunoOutlierDetector": "bruno.estimators.density",
            "CheckpointError": "bruno.errors",
            "few_shot": "bruno.few_shot",
            "Evidence": "bruno.evidence",
            "ExchangeableGaussian": "bruno.processes",
            "ExchangeableProcess": "bruno.processes",
            "ExchangeableStudentT": "bruno.processes",
            "Flow": "bruno.flows",
            "FlowTransform": "bruno.flows",
            "MissingDataError": "bruno.errors",
            "Predictive": "bruno.predictive",
            "RealNVP": "bruno.flows",
            "UserError": "bruno.errors",
            "__version__": "bruno.version",
        },
    )

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
    "Flow",
    "FlowTransform",
    "MissingDataError",
    "Predictive",
    "RealNVP",
    "UserError",
    "__version__",
    "few_shot",
]
