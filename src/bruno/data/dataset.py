"""Labelled images in memory: what every loader returns and every sampler reads."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from bruno.data.context import Label, check_same_labels
from bruno.errors import UserError

SPLITS = ("train", "val", "test")
"""The splits every data set has; some have more, such as ``"trainval"`` or ``"all"``."""


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """Images, the class of each, and the names of the classes.

    Attributes:
        images: 8-bit images, uint8 ``(N, C, H, W)``.
        labels: Index into ``class_names`` of every image, int64 ``(N,)``.
        class_names: One name per class, without repetition.
        name: Data set, such as ``"omniglot"``.
        split: Part of it, such as ``"train"``.
        context: What a conditional model is told about every image, float32
            ``(N, context_dim)``, or ``None``.
        context_labels: The labels that :func:`~bruno.data.context.encode_context` made it from,
            where they are known.
        versions: Other versions of every image, which training may take in its place, uint8
            ``(V, N, C, H, W)``, or ``None``.

    Raises:
        UserError: If a shape, type or range is not as above.
    """

    images: Tensor
    labels: Tensor
    class_names: tuple[str, ...]
    name: str
    split: str
    context: Tensor | None = None
    versions: Tensor | None = None
    context_labels: tuple[Label, ...] = ()

    def __post_init__(self) -> None:
        if self.images.dtype != torch.uint8 or self.images.ndim != 4:
            raise UserError(
                f"images: expected a uint8 tensor (N, C, H, W), got {_describe(self.images)}"
            )
        count = self.images.shape[0]
        if self.labels.dtype != torch.int64 or self.labels.shape != (count,):
            raise UserError(
                f"labels: expected an int64 tensor ({count},), got {_describe(self.labels)}"
            )
        if len(set(self.class_names)) != len(self.class_names):
            repeated = sorted({n for n in self.class_names if self.class_names.count(n) > 1})
            raise UserError(f"class_names: expected distinct names, got {repeated} repeatedly")
        if count:
            low, high = int(self.labels.min()), int(self.labels.max())
            if low < 0 or high >= self.num_classes:
                raise UserError(
                    f"labels: expected values in 0..{self.num_classes - 1}, got {low}..{high}"
                )
        if self.context is not None and (
            self.context.dtype != torch.float32
            or self.context.ndim != 2
            or self.context.shape[0] != count
        ):
            raise UserError(
                f"context: expected a float32 tensor ({count}, context_dim), "
                f"got {_describe(self.context)}"
            )
        if self.context is not None and not bool(torch.isfinite(self.context).all()):
            raise UserError("context: expected finite numbers, got NaN or infinity")
        told = sum(label.dim for label in self.context_labels)
        if told and (self.context is None or self.context.shape[1] != told):
            raise UserError(f"context_labels: they tell {told} numbers, got {self.context_dim}")
        if self.versions is not None and (
            self.versions.dtype != torch.uint8 or self.versions.shape[1:] != self.images.shape
        ):
            raise UserError(
                f"versions: expected a uint8 tensor (V, {', '.join(map(str, self.images.shape))}), "
                f"got {_describe(self.versions)}"
            )

    @property
    def event_shape(self) -> tuple[int, int, int]:
        """Shape ``(C, H, W)`` of one image."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width

    @property
    def context_dim(self) -> int:
        """Size of the context of an image; 0 for none."""
        return 0 if self.context is None else self.context.shape[1]

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @cached_property
    def class_sizes(self) -> Tensor:
        """Number of images of every class, int64 ``(num_classes,)``."""
        return torch.bincount(self.labels, minlength=self.num_classes)

    @cached_property
    def _images_by_class(self) -> tuple[Tensor, ...]:
        order = torch.argsort(self.labels, stable=True)
        members: tuple[Tensor, ...] = order.split(self.class_sizes.tolist())
        return members

    @cached_property
    def index_table(self) -> Tensor:
        """Indices of the images of every class, int64 ``(num_classes, largest class)``.

        Row ``k`` starts with the ``class_sizes[k]`` indices of class ``k``, ascending; the rest of
        the row is padding, -1.
        """
        return torch.nn.utils.rnn.pad_sequence(
            list(self._images_by_class), batch_first=True, padding_value=-1
        )

    def __len__(self) -> int:
        return self.images.shape[0]

    def __repr__(self) -> str:
        return (
            f"LabelledImages({self.name}/{self.split}: {len(self)} images "
            f"{self.event_shape} of {self.num_classes} classes)"
        )

    def indices_of(self, class_index: int) -> Tensor:
        """Return the indices of the images of one class, int64 ``(images of the class,)``.

        Args:
            class_index: Index into ``class_names``.

        Raises:
            UserError: If there is no such class.
        """
        if not 0 <= class_index < self.num_classes:
            raise UserError(
                f"class_index: expected an index in 0..{self.num_classes - 1}, got {class_index}"
            )
        return self._images_by_class[class_index]

    def restrict(self, classes: Sequence[str]) -> "LabelledImages":
        """Keep only some classes, renumbered in the order given.

        Args:
            classes: Names of the classes to keep, each once.

        Raises:
            UserError: If no class is given, a name is unknown or is given twice.
        """
        if not classes:
            raise UserError("classes: expected at least one class name, got none")
        position = {name: index for index, name in enumerate(self.class_names)}
        unknown = [name for name in classes if name not in position]
        if unknown:
            raise UserError(
                f"classes: {_listing(unknown)} not in {self.name}/{self.split}; "
                f"its classes are {_listing(self.class_names)}"
            )
        chosen = [position[name] for name in classes]
        renumbered = torch.full_like(self.class_sizes, -1)
        renumbered[chosen] = torch.arange(len(classes), device=renumbered.device)
        kept = renumbered[self.labels] >= 0
        return LabelledImages(
            images=self.images[kept],
            labels=renumbered[self.labels[kept]],
            class_names=tuple(classes),
            name=self.name,
            split=self.split,
            context=None if self.context is None else self.context[kept],
            versions=None if self.versions is None else self.versions[:, kept],
            context_labels=self.context_labels,
        )

    def joined(self, other: "LabelledImages") -> "LabelledImages":
        """Add the classes of another data set, or of another split, behind those of this one.

        A class whose name is there already gets that of its data set and split in front.

        Args:
            other: Images of the same shape, of other classes, told the same labels if any.

        Raises:
            UserError: If the shapes or the labels differ.
        """
        if other.event_shape != self.event_shape:
            raise UserError(
                f"other: expected images {self.event_shape} as in {self.name}/{self.split}, got "
                f"{other.event_shape} from {other.name}/{other.split}"
            )
        source = f"{other.name}/{other.split}"
        check_same_labels("other", source, other.context_labels, self.context_labels)
        if other.context_dim != self.context_dim:
            raise UserError(
                f"other: expected {self.context_dim} numbers told of every image, as in "
                f"{self.name}/{self.split}, got {other.context_dim} from {source}"
            )
        added = tuple(
            f"{other.name}/{other.split}/{name}" if name in self.class_names else name
            for name in other.class_names
        )
        number = max(0 if v is None else len(v) for v in (self.versions, other.versions))
        versions = torch.cat([part._versions(number) for part in (self, other)], 1)
        return LabelledImages(
            images=torch.cat([self.images, other.images]),
            labels=torch.cat([self.labels, other.labels + self.num_classes]),
            class_names=self.class_names + added,
            name=self.name,
            split=self.split,
            context=None
            if self.context is None or other.context is None
            else torch.cat([self.context, other.context]),
            versions=versions if number else None,
            context_labels=self.context_labels,
        )

    def _versions(self, number: int) -> Tensor:
        """Return so many versions, in turn; an image that has none stands for each of them."""
        known = self.images.unsqueeze(0) if self.versions is None else self.versions
        return known[torch.arange(number, device=known.device) % len(known)]


def check_split(name: str, split: str, known: Sequence[str]) -> None:
    """Raise if a data set has no such split.

    Args:
        name: The data set.
        split: What was asked for.
        known: The splits it has.

    Raises:
        UserError: If ``split`` is not one of ``known``.
    """
    if split not in known:
        raise UserError(f"split: {name} has {_listing(known)}, got {split!r}")


def _describe(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"


def _listing(names: Sequence[str], limit: int = 40) -> str:
    shown = ", ".join(repr(name) for name in names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"
