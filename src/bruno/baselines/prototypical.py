r"""Prototypical networks: the nearest mean of embedded examples.

The log-probability of a class falls with the squared distance of an embedded query to the mean
:math:`c_k` of the embedded examples of the class (Snell, Swersky & Zemel, *Prototypical Networks
for Few-shot Learning*, NeurIPS 2017, eq. 2):

.. math:: \log p(y = k \mid x) = -\|f(x) - c_k\|^2 - \log \sum_j e^{-\|f(x) - c_j\|^2}
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as save_tensors
from torch import Tensor, nn
from torch.nn.functional import nll_loss

from bruno.data.dataset import LabelledImages
from bruno.data.sets import sample_sets
from bruno.errors import CheckpointError, UserError
from bruno.flows.bijection import FACTORY_KWARGS
from bruno.seeding import generator_for
from bruno.serialization import write_atomically

_TRAINING, _VALIDATION = range(2)
_VALIDATION_EPISODES = 20
_IMAGES_AT_ONCE = 512


@dataclass(frozen=True)
class PrototypicalConfig:
    """How a prototypical network is trained; the defaults are those of the paper.

    Attributes:
        way: Classes in a training episode.
        shot: Examples of each.
        queries: Queries of each.
        learning_rate: Of Adam, at the start.
        halve_every: Episodes after which it is halved.
        minutes: Length of the training in minutes of wall-clock time.
        episodes: Its length in episodes; with both, whichever comes first ends it.
        validate_every: Episodes between validations; the best weights on them are kept.
        seed: Seed of initialisation and episodes.
    """

    way: int = 60
    shot: int = 5
    queries: int = 5
    learning_rate: float = 1e-3
    halve_every: int = 2000
    minutes: float = 15.0
    episodes: int | None = None
    validate_every: int = 200
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            UserError: If a number is not positive, or one class were all there is to choose from.
        """
        for name, value in self.__dict__.items():
            if value is None:
                continue
            least = 2 if name == "way" else 0 if name == "seed" else None
            if (least is None and not value > 0) or (least is not None and value < least):
                raise UserError(f"{name}: expected a number of at least {least or 0}, got {value}")


class PrototypicalNetwork(nn.Module):
    """The embedding of the paper: four blocks of convolution, batch norm, ReLU and max-pooling.

    Args:
        event_shape: Shape of an image, ``(C, H, W)``, height and width at least 16.
        filters: Width of the convolutions.

    Raises:
        UserError: If the images are too small.
    """

    _like: Tensor

    def __init__(self, event_shape: tuple[int, ...], filters: int = 64) -> None:
        super().__init__()
        if len(event_shape) != 3 or min(event_shape[1:]) < 16:
            raise UserError(
                f"event_shape: expected (C, H, W) of at least 16 x 16 pixels, got {event_shape}"
            )
        self.event_shape, self.filters = tuple(event_shape), filters
        layers: list[nn.Module] = []
        for channels in (event_shape[0], filters, filters, filters):
            layers += [
                nn.Conv2d(channels, filters, 3, padding=1, **FACTORY_KWARGS),
                nn.BatchNorm2d(filters, **FACTORY_KWARGS),
                nn.ReLU(),
                nn.MaxPool2d(2),
            ]
        self.layers = nn.Sequential(*layers, nn.Flatten())
        self.register_buffer("_like", torch.zeros(0, **FACTORY_KWARGS), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return the embeddings of uint8 images ``(B, C, H, W)``."""
        embedded: Tensor = self.layers(images.to(self._like.dtype) / 255)
        return embedded

    def log_prob(self, examples: Tensor, images: Tensor) -> Tensor:
        """Return the log-probabilities of classes given examples of them.

        Args:
            examples: uint8 ``(K, n, C, H, W)``.
            images: uint8 ``(Q, C, H, W)``.

        Returns:
            ``(Q, K)``, in nats.
        """
        embedded = self(torch.cat([examples.flatten(0, 1), images]))
        support, query = embedded.split([examples.shape[0] * examples.shape[1], len(images)])
        prototypes = support.unflatten(0, examples.shape[:2]).mean(1)
        squared: Tensor = (query.unsqueeze(1) - prototypes).square().sum(-1)
        return (-squared).log_softmax(-1)

    @torch.no_grad()
    def scores(self, examples: Tensor, images: Tensor) -> Tensor:
        """Return :meth:`log_prob` with the statistics of training, in bounded memory.

        Args:
            examples: uint8 ``(K, n, C, H, W)``.
            images: uint8 ``(Q, C, H, W)``.
        """
        self.eval()
        parts = images.split(_IMAGES_AT_ONCE)
        return torch.cat([self.log_prob(examples, part) for part in parts])

    def save(self, file: Path, about: dict[str, str]) -> None:
        """Write the network as one safetensors file of half precision.

        Args:
            file: The file.
            about: What is worth knowing of it, kept as metadata.
        """
        tensors = {
            name: tensor.half() if tensor.is_floating_point() else tensor
            for name, tensor in self.state_dict().items()
        }
        shape = " ".join(map(str, self.event_shape))
        metadata = {**about, "event_shape": shape, "filters": str(self.filters)}
        write_atomically(file, save_tensors(tensors, metadata))

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
            network = cls(event_shape, int(about["filters"]))
            network.load_state_dict(tensors)
        except (OSError, KeyError, RuntimeError, ValueError, SafetensorError) as error:
            raise CheckpointError(f"{file}: cannot be read as a network: {error}") from None
        return network.eval()


def train_prototypical(
    training_set: LabelledImages,
    validation_set: LabelledImages,
    config: PrototypicalConfig = PrototypicalConfig(),
    on_row: Callable[[dict[str, float]], None] | None = None,
) -> PrototypicalNetwork:
    """Train a network on episodes and return the weights that were best on validation classes.

    Every class is also learnt in three rotations, as four classes in all.

    Args:
        training_set: Images of classes to learn from.
        validation_set: Images of other classes, to stop at the best weights.
        config: The settings.
        on_row: Called with the figures of every validation: episode, seconds, loss, accuracy.

    Returns:
        The network.

    Raises:
        UserError: If there are too few classes or images of one.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(config.seed)
        network = PrototypicalNetwork(training_set.event_shape)
    optimiser = torch.optim.Adam(network.parameters(), config.learning_rate)
    halving = torch.optim.lr_scheduler.StepLR(optimiser, config.halve_every, 0.5)
    best, best_accuracy = network.state_dict(), -1.0
    start, episode = time.perf_counter(), 0
    while time.perf_counter() - start < 60 * config.minutes and episode != config.episodes:
        network.train()
        loss, _ = _episode(network, training_set, config, _TRAINING, episode)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        halving.step()
        episode += 1
        if episode % config.validate_every == 0:
            row = _validated(network, validation_set, config)
            if row["accuracy"] > best_accuracy:
                best_accuracy = row["accuracy"]
                best = {name: tensor.clone() for name, tensor in network.state_dict().items()}
            if on_row is not None:
                on_row({"episode": episode, "seconds": time.perf_counter() - start, **row})
    network.load_state_dict(best)
    return network.eval()


@torch.no_grad()
def _validated(
    network: PrototypicalNetwork, dataset: LabelledImages, config: PrototypicalConfig
) -> dict[str, float]:
    """Return loss and accuracy on fixed episodes with the statistics of training."""
    network.eval()
    figures = [
        torch.stack(_episode(network, dataset, config, _VALIDATION, index))
        for index in range(_VALIDATION_EPISODES)
    ]
    loss, accuracy = torch.stack(figures).mean(0).tolist()
    return {"loss": loss, "accuracy": accuracy}


def _episode(
    network: PrototypicalNetwork,
    dataset: LabelledImages,
    config: PrototypicalConfig,
    purpose: int,
    index: int,
) -> tuple[Tensor, Tensor]:
    """Return loss and accuracy of an episode, a function of the seed and its index."""
    generator = generator_for(config.seed, purpose, index)
    sets = sample_sets(
        dataset,
        min(config.way, dataset.num_classes),
        config.shot + config.queries,
        generator,
        rotations=True,
        augmented_images=purpose == _TRAINING,
    )
    examples, queries = sets.images.split([config.shot, config.queries], 1)
    log_prob = network.log_prob(examples, queries.flatten(0, 1))
    truth = torch.arange(len(examples), device=log_prob.device).repeat_interleave(config.queries)
    accuracy = (log_prob.argmax(-1) == truth).double().mean()
    return nll_loss(log_prob, truth), accuracy.to(log_prob)
