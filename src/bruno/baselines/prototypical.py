r"""Prototypical networks: the nearest mean of embedded examples.

The log-probability of a class falls with the squared distance of an embedded query to the mean
:math:`c_k` of the embedded examples of the class (Snell, Swersky & Zemel, *Prototypical Networks
for Few-shot Learning*, NeurIPS 2017, eq. 2):

.. math:: \log p(y = k \mid x) = -\|f(x) - c_k\|^2 - \log \sum_j e^{-\|f(x) - c_j\|^2}
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as save_tensors
from torch import Tensor

from bruno.baselines.embedding import MeanSystem
from bruno.baselines.encoder import Conv4
from bruno.baselines.interface import Abilities, EpisodePlan
from bruno.errors import CheckpointError
from bruno.serialization import write_atomically


class PrototypicalNetwork(MeanSystem):
    """The system of the paper: Conv4, trained on more classes at once than it is tested on.

    Args:
        event_shape: Shape of an image, ``(C, H, W)``, height and width at least 16.
        num_classes: Number of training classes, which it does not depend on.
        filters: Width of the convolutions.

    Raises:
        UserError: If the images are too small.
    """

    title: ClassVar[str] = "Prototypical network"
    abilities: ClassVar[Abilities] = Abilities(streaming=True, forgetting=True)
    plan: ClassVar[EpisodePlan] = EpisodePlan(ways=(60,), queries=4)

    def __init__(
        self, event_shape: tuple[int, ...], num_classes: int = 0, filters: int = 64
    ) -> None:
        super().__init__(event_shape, num_classes)
        self.encoder = Conv4(event_shape, filters)

    def log_prob_given_means(self, query: Tensor, means: Tensor) -> Tensor:
        """Return the log-probabilities of classes ``(Q, K)`` by the distance to their means.

        Args:
            query: Embeddings of queries, ``(Q, *F)``.
            means: Mean embedding of every class, ``(K, *F)``.
        """
        squared = (query.unsqueeze(1) - means).square().sum(-1)
        return (-squared).log_softmax(-1)

    @torch.no_grad()
    def scores(self, examples: Tensor, images: Tensor) -> Tensor:
        """Return the log-probabilities of classes given equally many examples of each.

        Args:
            examples: uint8 ``(K, n, C, H, W)``.
            images: uint8 ``(Q, C, H, W)``.

        Returns:
            ``(Q, K)``, in nats.
        """
        self.eval()
        labels = torch.arange(len(examples), device=examples.device).repeat_interleave(
            examples.shape[1]
        )
        return self.adapt(examples.flatten(0, 1), labels).predict_log_prob(images)

    def save(self, file: Path, about: dict[str, str]) -> None:
        """Write the network as one safetensors file of half precision.

        Args:
            file: The file.
            about: Further metadata, such as its training data.
        """
        tensors = {
            name: tensor.half() if tensor.is_floating_point() else tensor
            for name, tensor in self.encoder.state_dict().items()
        }
        shape = " ".join(map(str, self.event_shape))
        metadata = {**about, "event_shape": shape, "filters": str(self.encoder.filters)}
        contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
        write_atomically(file, save_tensors(contiguous, metadata))

    @classmethod
    def load(cls, file: Path) -> PrototypicalNetwork:
        """Read a network that :meth:`save` wrote.

        Raises:
            CheckpointError: If the file is missing or damaged.
        """
        try:
            with safe_open(file, "pt") as opened:
                about = opened.metadata()
                tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
            event_shape = tuple(map(int, about["event_shape"].split()))
            network = cls(event_shape, filters=int(about["filters"]))
            network.encoder.load_state_dict(tensors)
        except (OSError, KeyError, RuntimeError, ValueError, SafetensorError) as error:
            raise CheckpointError(f"{file}: cannot be read as a network: {error}") from None
        return network.eval()
