"""The few-shot systems by name."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass

from bruno.baselines.interface import System
from bruno.validation import check_choice

SETTINGS = ((5, 1), (5, 5), (20, 1), (20, 5))
"""Classes and examples of each in the usual few-shot tasks."""


@dataclass(frozen=True)
class Entry:
    """A system and its published figures.

    Attributes:
        home: Module of the system and name of its class.
        family: Place in the taxonomy of meta-learning.
        published: Published accuracy on Omniglot in per cent in the tasks :data:`SETTINGS`; None
            where there is none.
        note: Differences from the published system.
    """

    home: tuple[str, str]
    family: str
    published: tuple[float | None, float | None, float | None, float | None]
    note: str = ""

    def load(self) -> type[System]:
        """Import and return the class of the system."""
        module, name = self.home
        kind: type[System] = getattr(importlib.import_module(f"bruno.baselines.{module}"), name)
        return kind


_NONE = (None, None, None, None)

SYSTEMS: dict[str, Entry] = {
    "classifier": Entry(
        ("classifier", "NearestNeighbourClassifier"),
        "transfer",
        (80.0, 95.0, 69.5, 89.1),
    ),
    "classifier-fine-tuned": Entry(
        ("classifier", "FineTunedClassifier"),
        "transfer",
        (82.3, 98.4, 70.6, 92.0),
        "linear layer on fixed features; the published one fine-tunes the features",
    ),
    "siamese": Entry(
        ("siamese", "SiameseNetwork"),
        "metric",
        (97.3, 98.4, 88.1, 97.0),
        "Conv4 in place of a larger encoder",
    ),
    "matching-cosine": Entry(
        ("matching", "MatchingNetwork"),
        "metric",
        (98.1, 98.9, 93.8, 98.5),
        "without full-context embeddings",
    ),
    "matching-squared": Entry(
        ("matching", "SquaredDistanceMatchingNetwork"),
        "metric",
        _NONE,
        "squared distance in place of the cosine",
    ),
    "prototypical": Entry(
        ("prototypical", "PrototypicalNetwork"),
        "metric",
        (98.8, 99.7, 96.0, 98.9),
        "trained with one example a class for all tasks",
    ),
    "relation": Entry(
        ("relation", "RelationNetwork"),
        "metric",
        (99.6, 99.8, 97.6, 99.1),
        "means of feature maps in place of sums",
    ),
    "maml": Entry(
        ("maml", "Maml"),
        "optimisation",
        (98.7, 99.9, 95.8, 98.9),
        "one network for 5 and 20 classes; batch norm of the examples alone",
    ),
    "maml-first-order": Entry(
        ("maml", "FirstOrderMaml"),
        "optimisation",
        _NONE,
        "one network for 5 and 20 classes; batch norm of the examples alone",
    ),
    "lstm": Entry(
        ("lstm_meta_learner", "LstmMetaLearner"),
        "optimisation",
        _NONE,
        "one network for 5 and 20 classes; not published on Omniglot",
    ),
    "mann": Entry(
        ("mann", "MemoryAugmentedNetwork"),
        "model",
        (82.8, 94.9, None, None),
        "one network for 5 and 20 classes; learnt sharpness; sequences of 3 images a class, not 10",
    ),
    "neural-process": Entry(
        ("neural_process", "NeuralProcess"),
        "model",
        (95.3, 98.5, 89.9, 96.8),
        "published figures at second hand",
    ),
    "neural-statistician": Entry(
        ("neural_statistician", "NeuralStatistician"),
        "generative",
        (98.1, 99.5, 93.2, 98.1),
        "a quarter of the widths, one layer of latent variables",
    ),
    "bruno-generative": Entry(
        ("bruno", "GenerativeBruno"), "model", (86.3, 95.6, 69.2, 87.7), "compact flow"
    ),
    "bruno": Entry(
        ("bruno", "FineTunedBruno"),
        "model",
        (97.1, 99.4, 91.3, 97.8),
        "compact flow; likelihood and classification at once",
    ),
}
"""Every system, in the order of tables."""


def chosen_systems(names: Sequence[str]) -> list[str]:
    """Return the names of systems, each once; ``all`` stands for every one.

    Args:
        names: The names.

    Raises:
        UserError: If one is unknown; the message lists those there are.
    """
    for name in names:
        check_choice("systems", name, ("all", *SYSTEMS))
    return [name for name in SYSTEMS if name in names or "all" in names]
