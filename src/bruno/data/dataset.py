"""Labelled images in memory, as loaders return and samplers read them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from bruno.data.context import ContextFeature, check_same_features
from bruno.errors import UserError
from bruno.validation import check_tensor, check_whole

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
        context: Context of every image for a conditional model, float32 ``(N, context_dim)``, or
            ``None``.
        context_features: The features that :func:`~bruno.data.context.encode_context` made it from,
            where they are known.
        augmented_images: Augmented copies of every image, drawn in its place in training, uint8
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
    augmented_images: Tensor | None = None
    context_features: tuple[ContextFeature, ...] = ()

    def __post_init__(self) -> None:
        for name in ("images", "labels"):
            check_tensor(name, getattr(self, name))
        for name in ("context", "augmented_images"):
            if getattr(self, name) is not None:
                check_tensor(name, getattr(self, name))
        object.__setattr__(self, "class_names", tuple(self.class_names))
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
        size = sum(feature.dim for feature in self.context_features)
        if size and (self.context is None or self.context.shape[1] != size):
            raise UserError(
                f"context_features: expected {size} entries of the context, got {self.context_dim}"
            )
        if self.augmented_images is not None and (
            self.augmented_images.dtype != torch.uint8
            or self.augmented_images.shape[1:] != self.images.shape
        ):
            raise UserError(
                "augmented_images: expected a uint8 tensor "
                f"(V, {', '.join(map(str, self.images.shape))}), got "
                f"{_describe(self.augmented_images)}"
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
        check_whole("class_index", class_index, 0)
        if class_index >= self.num_classes:
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
            augmented_images=None
            if self.augmented_images is None
            else self.augmented_images[:, kept],
            context_features=self.context_features,
        )

    def joined(self, other: "LabelledImages") -> "LabelledImages":
        """Add the classes of another data set, or of another split, behind those of this one.

        A class whose name is there already gets that of its data set and split in front.

        Args:
            other: Images of the same shape, of other classes, with the same context features if
                any.

        Raises:
            UserError: If the shapes or the context features differ.
        """
        if other.event_shape != self.event_shape:
            raise UserError(
                f"other: expected images {self.event_shape} as in {self.name}/{self.split}, got "
                f"{other.event_shape} from {other.name}/{other.split}"
            )
        source = f"{other.name}/{other.split}"
        check_same_features("other", source, other.context_features, self.context_features)
        if other.context_dim != self.context_dim:
            raise UserError(
                f"other: expected {self.context_dim} context entries of every image, as in "
                f"{self.name}/{self.split}, got {other.context_dim} from {source}"
            )
        added = tuple(
            f"{other.name}/{other.split}/{name}" if name in self.class_names else name
            for name in other.class_names
        )
        number = max(
            0 if v is None else len(v) for v in (self.augmented_images, other.augmented_images)
        )
        augmented_images = torch.cat([part._augmented(number) for part in (self, other)], 1)
        return LabelledImages(
            images=torch.cat([self.images, other.images]),
            labels=torch.cat([self.labels, other.labels + self.num_classes]),
            class_names=self.class_names + added,
            name=self.name,
            split=self.split,
            context=None
            if self.context is None or other.context is None
            else torch.cat([self.context, other.context]),
            augmented_images=augmented_images if number else None,
            context_features=self.context_features,
        )

    def _augmented(self, number: int) -> Tensor:
        """Return ``number`` augmented copies, in turn; the image itself where there are none."""
        copies = (
            self.images.unsqueeze(0) if self.augmented_images is None else self.augmented_images
        )
        return copies[torch.arange(number, device=copies.device) % len(copies)]


def check_split(name: str, split: str, known: Sequence[str]) -> None:
    """Raise if a data set has no such split.

    Args:
        name: The data set.
        split: The split asked for.
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
