r"""Sufficient statistics of sets of latent vectors, for exchangeable processes.

For Gaussian and Student-t processes with constant covariance the conditional distribution of
anything, given a set :math:`z_1..z_n`, depends on the set only through its size, its mean and its
scatter. So evidence from two sets adds, evidence of known elements subtracts, and a set of a
million elements costs as much memory as a set of one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bruno.chunks import device_limit, rows_per_chunk
from bruno.errors import UserError
from bruno.validation import (
    check_finite,
    check_floating,
    check_number,
    check_tensor,
    check_type,
    check_whole,
    checked_shape,
)

# An element that is forgotten may have been encoded again in float32, in a batch of another size,
# and then differs from the observed one by about this much, relative to its magnitude.
_ROUNDING = 1e-4


# Of a sum of weights, the share that is the rounding error of adding and subtracting them.
_NO_WEIGHT = 1e-11

_DTYPES = {
    "count": (torch.int64, torch.float64),
    "mean": (torch.float64,),
    "scatter": (torch.float64,),
}


@dataclass(frozen=True, eq=False)
class Evidence:
    r"""Count, mean and scatter of sets of vectors; immutable.

    ``a + b`` is the evidence of the union of two sets (Chan, Golub & LeVeque 1983), ``a - b``
    exactly forgets a subset. The scatter is kept about the mean, not as raw second moments, so
    nothing cancels when elements are nearly equal. All statistics are float64.

    Attributes:
        count: Number of elements :math:`n`, shape ``(*B,)``, int64; or the sum of their weights,
            float64; in every dimension, ``(*B, D)``, if elements weigh differently there.
        mean: Their mean, shape ``(*B, D)``; zero for an empty set.
        scatter: :math:`\sum_i (z_i - \bar z)^2` in every dimension, shape ``(*B, D)``.

    Example:
        >>> z = torch.tensor([[0.0, 1.0], [2.0, 1.0], [4.0, 4.0]])
        >>> evidence = Evidence.of(z)
        >>> evidence.mean
        tensor([2., 2.], dtype=torch.float64)
        >>> (evidence - Evidence.of(z[2:])).mean
        tensor([1., 1.], dtype=torch.float64)
    """

    count: Tensor
    mean: Tensor
    scatter: Tensor

    def __post_init__(self) -> None:
        for name in _DTYPES:
            check_tensor(name, getattr(self, name))
        counts = self.mean.shape[:-1], self.mean.shape
        if self.mean.shape != self.scatter.shape or self.count.shape not in counts:
            raise UserError(
                "evidence: expected count (*B,) or (*B, D), mean and scatter (*B, D), got "
                f"{tuple(self.count.shape)}, {tuple(self.mean.shape)}, {tuple(self.scatter.shape)}"
            )
        for name, dtypes in _DTYPES.items():
            if getattr(self, name).dtype not in dtypes:
                expected = " or ".join(map(str, dtypes))
                raise UserError(f"{name}: expected {expected}, got {getattr(self, name).dtype}")

    @classmethod
    def empty(
        cls,
        dim: int,
        batch_shape: Sequence[int] = (),
        *,
        device: torch.device | str = "cpu",
    ) -> Evidence:
        """Return the evidence of no elements at all.

        Args:
            dim: Dimension ``D`` of an element.
            batch_shape: Shape ``*B`` of the batch of (empty) sets.
            device: Where the statistics live.

        Raises:
            UserError: If ``dim`` is not a positive whole number, or ``batch_shape`` is no shape.
        """
        check_whole("dim", dim, 1)
        shape = checked_shape("batch_shape", batch_shape)
        zeros = torch.zeros(*shape, dim, dtype=torch.float64, device=device)
        return cls(torch.zeros(shape, dtype=torch.int64, device=device), zeros, zeros)

    @classmethod
    def of(cls, z: Tensor) -> Evidence:
        """Return the evidence of whole sets; see :meth:`by_class` for elements with weights.

        Args:
            z: Elements, shape ``(*B, n, D)``; ``n`` may be 0.

        Raises:
            UserError: If ``z`` is not a floating tensor of that shape, or is not finite.
        """
        z = checked_elements(z)
        batch_shape, n, dim = z.shape[:-2], z.shape[-2], z.shape[-1]
        if n == 0:
            return cls.empty(dim, batch_shape, device=z.device)
        mean = z.mean(-2)
        scatter = (z - mean.unsqueeze(-2)).square().sum(-2)
        return cls(torch.full(batch_shape, n, dtype=torch.int64, device=z.device), mean, scatter)

    @classmethod
    def by_class(cls, z: Tensor, labels: Tensor, weight: Tensor | None = None) -> Evidence:
        """Return the evidence of every class, of batch shape ``(K,)``, in O(N · D).

        Args:
            z: Elements, ``(N, D)``.
            labels: Class of each, int64 ``(N,)``, from 0 to K − 1.
            weight: How often each counts, not negative, float64 ``(N,)``, or ``(N, D)`` where it
                differs by dimension, as where an entry is missing and weighs 0; by default once.

        Raises:
            UserError: If there is not one non-negative label for every element, ``z`` is not
                floating or not finite, or weights are negative or of another shape.

        Example:
            >>> z = torch.tensor([[0.0], [4.0], [2.0]])
            >>> Evidence.by_class(z, torch.tensor([0, 1, 0])).mean
            tensor([[1.],
                    [4.]], dtype=torch.float64)
        """
        z = checked_elements(z)
        check_tensor("labels", labels)
        if labels.dtype != torch.int64 or labels.shape != z.shape[:-1] or z.dim() != 2:
            raise UserError(
                f"labels: expected int64 ({len(z)},) for elements {tuple(z.shape)}, got "
                f"{labels.dtype} {tuple(labels.shape)}"
            )
        if len(labels) and int(labels.min()) < 0:
            raise UserError(f"labels: expected classes from 0 on, got {int(labels.min())}")
        number = int(labels.max()) + 1 if len(labels) else 0
        zeros = z.new_zeros(number, z.shape[1])
        if weight is None:
            count, each = torch.bincount(labels), None
            mean = zeros.index_add(0, labels, z) / count.clamp_min(1).unsqueeze(1)
        else:
            check_floating("weight", weight)
            if weight.shape not in (labels.shape, z.shape) or not bool((weight >= 0).all()):
                raise UserError(
                    f"weight: expected numbers of at least 0, {tuple(labels.shape)} or "
                    f"{tuple(z.shape)}, got shape {tuple(weight.shape)}"
                )
            each = weight.double() if weight.dim() == 2 else weight.double().unsqueeze(1)
            counts = zeros[:, : each.shape[1]].index_add(0, labels, each)
            mean = _divided(zeros.index_add(0, labels, each * z), counts)
            count = counts if weight.dim() == 2 else counts[:, 0]
        scatter = torch.zeros_like(zeros)
        size = rows_per_chunk(z.shape[1], device_limit(z.device))
        for start in range(0, len(z), size):
            some = slice(start, start + size)
            squares = (z[some] - mean[labels[some]]).square()
            scatter.index_add_(0, labels[some], squares if each is None else each[some] * squares)
        return cls(count, mean, scatter)

    @classmethod
    def stack(cls, sets: Sequence[Evidence]) -> Evidence:
        """Return the evidence of several sets, each of batch shape ``*B``, as ``(K, *B)``.

        Args:
            sets: At least one, of the same batch shape and dimension.

        Raises:
            UserError: If there is none, or shapes differ.
        """
        for one in sets:
            check_type("sets", one, Evidence)
        shapes = {tuple(one.mean.shape) for one in sets}
        if len(shapes) != 1:
            raise UserError(
                f"sets: expected evidence of one batch shape and dimension, got {sorted(shapes)}"
            )
        counts = [one.count for one in sets]
        if len({(count.dtype, count.dim()) for count in counts}) > 1:
            everywhere = any(one.counts_differ for one in sets)
            counts = [
                one.counts.expand_as(one.mean) if everywhere else one.count.double() for one in sets
            ]
        return cls(
            torch.stack(counts),
            torch.stack([one.mean for one in sets]),
            torch.stack([one.scatter for one in sets]),
        )

    @property
    def dim(self) -> int:
        """Dimension ``D`` of an element."""
        return self.mean.shape[-1]

    @property
    def batch_shape(self) -> torch.Size:
        """Shape ``*B`` of the batch of sets."""
        return self.mean.shape[:-1]

    @property
    def counts_differ(self) -> bool:
        """Whether there is one count for every dimension, ``(*B, D)``."""
        return self.count.dim() == self.mean.dim()

    @property
    def counts(self) -> Tensor:
        """Counts in float64 that broadcast with the mean, ``(*B, 1)`` or ``(*B, D)``."""
        count = self.count.double()
        return count if self.counts_differ else count.unsqueeze(-1)

    def __add__(self, other: Evidence) -> Evidence:
        """Return the evidence of the union of two disjoint sets, batch shapes broadcast."""
        if not isinstance(other, Evidence):
            return NotImplemented
        self._check_same_space(other)
        mine, its = self._counts_beside(other)
        weight = _divided(other.counts, self.counts + other.counts)
        shift = other.mean - self.mean
        return Evidence(
            mine + its,
            self.mean + weight * shift,
            self.scatter + other.scatter + shift.square() * weight * self.counts,
        )

    def __sub__(self, other: Evidence) -> Evidence:
        """Return the evidence with the elements behind ``other`` exactly forgotten.

        Raises:
            UserError: If ``other`` cannot have been part of this evidence (see :meth:`without`).
        """
        if not isinstance(other, Evidence):
            return NotImplemented
        return self.without(other)

    def without(
        self, other: Evidence, rounding: float = _ROUNDING, least: Tensor | float = 0.0
    ) -> Evidence:
        r"""Return the evidence with the elements behind ``other`` exactly forgotten.

        They must be among those observed. Count, mean and scatter show that they were not where the
        others would scatter by less than nothing in some dimension: a single element cannot lie
        further from the mean than :math:`\sqrt{(n - 1) W / n}` (Samuelson, *How Deviant Can You
        Be?*, JASA 1968). Where at most one element is left, these others must not scatter at all.
        Elements that were never observed, and are nearer, cannot be distinguished from those that
        were.

        Args:
            other: Evidence of elements that were observed; batch shapes broadcast.
            rounding: Largest relative difference between an observed element and
                the same element encoded again.
            least: Scatter that rounding errors of earlier updates may have left, ``(*B, D)``, or a
                scalar.

        Raises:
            UserError: If ``other`` cannot have been part of this evidence, or ``rounding`` is
                negative.
        """
        check_type("other", other, Evidence)
        check_number("rounding", rounding, "a number of at least 0", lambda number: number >= 0)
        self._check_same_space(other)
        mine, its = self._counts_beside(other)
        weighted = mine.is_floating_point() or its.is_floating_point()
        count = mine - its
        if weighted:  # sums of weights are rounded
            count = torch.where(count.abs() <= _NO_WEIGHT * mine, 0.0, count)
        if bool((count < 0).any()):
            raise UserError(
                "forget: expected at most as many elements as were seen "
                f"({float(self.count.max()):g}), got {float(other.count.max()):g}"
            )
        rest = count.double()
        if count.dim() < max(self.mean.dim(), other.mean.dim()):
            rest = rest.unsqueeze(-1)
        is_gone = rest == 0
        # n_other / n_rest; n_other where nothing is left
        weight = other.counts / torch.where(is_gone, 1.0, rest)
        shift = self.mean - other.mean
        moved = shift.square() * other.counts * (1 + weight)
        between = self.scatter - other.scatter
        scatter = between - moved
        magnitude = (self.mean.square() + other.mean.square()).mean(-1, keepdim=True)
        tolerance = (
            rounding * (self.scatter + other.scatter + moved)
            + rounding**2 * self.counts * magnitude
            + least
        )
        # Where nothing is left, mean and scatter must be the same; a single element that is left
        # does not scatter; several do not scatter by less than 0.
        is_single = is_gone if weighted else rest <= 1
        excess = torch.where(is_gone, between.abs() + moved, scatter.abs())
        impossible = torch.where(is_single, excess, -scatter) > tolerance
        if bool(impossible.any()):
            raise UserError(
                "forget: expected elements that are part of this evidence; these have a mean or "
                "scatter that no subset of the elements seen can have"
            )
        return Evidence(
            count,
            torch.where(is_gone, torch.zeros_like(shift), self.mean + weight * shift),
            torch.where(is_single, torch.zeros_like(shift), scatter.clamp_min(0)),
        )

    def expand(self, batch_shape: Sequence[int]) -> Evidence:
        """Return the same evidence for a larger batch of sets, without copying it.

        Args:
            batch_shape: A shape that the batch shape broadcasts to.

        Raises:
            UserError: If it does not broadcast to that.
        """
        shape = checked_shape("batch_shape", batch_shape)
        try:
            return Evidence(
                self.count.expand(*shape, self.dim)
                if self.counts_differ
                else self.count.expand(shape),
                self.mean.expand(*shape, self.dim),
                self.scatter.expand(*shape, self.dim),
            )
        except RuntimeError:
            raise UserError(
                f"batch_shape: expected a shape that {tuple(self.batch_shape)} broadcasts to, got "
                f"{shape}"
            ) from None

    def observe(self, z: Tensor) -> Evidence:
        """Return the evidence with more elements added, each in O(D) and exactly.

        Args:
            z: One element for every set, shape ``(*B, D)``, or several, shape ``(*B, n, D)``.

        Raises:
            UserError: If the shape fits neither, or ``z`` is not floating or not finite.
        """
        if torch.is_tensor(z) and z.dim() == self.mean.dim():
            return self._observe_one(self._checked_elements(z).squeeze(-2))
        return self + self.of_elements(z)

    def _observe_one(self, z: Tensor) -> Evidence:
        # Welford's update equals merging with a single element, in a third of the time.
        count = self.count + 1
        shift = z - self.mean
        mean = self.mean + shift / (count if self.counts_differ else count.unsqueeze(-1))
        return Evidence(count, mean, torch.addcmul(self.scatter, shift, z - mean))

    def of_elements(self, z: Tensor) -> Evidence:
        """Return the evidence of ``z`` alone: one element a set, ``(*B, D)``, or ``(*B, n, D)``."""
        return Evidence.of(self._checked_elements(z))

    def _checked_elements(self, z: Tensor) -> Tensor:
        """Return elements as ``(*B, n, D)`` in float64."""
        batch = len(self.batch_shape)
        elements = z.unsqueeze(-2) if torch.is_tensor(z) and z.dim() == batch + 1 else z
        elements = checked_elements(elements)
        if elements.shape[:-2] != self.batch_shape or elements.shape[-1] != self.dim:
            expected = ", ".join(map(str, (*self.batch_shape, "[n,]", self.dim)))
            expected = expected.replace("[n,],", "[n,]")
            raise UserError(f"z: expected shape ({expected}), got {tuple(z.shape)}")
        return elements

    def __getitem__(self, index: object) -> Evidence:
        """Return the evidence of some sets of the batch."""
        return Evidence(self.count[index], self.mean[index], self.scatter[index])  # type: ignore[index]

    def _counts_beside(self, other: Evidence) -> tuple[Tensor, Tensor]:
        """Return the counts of both, for every dimension if those of either are."""
        if self.counts_differ == other.counts_differ:
            return self.count, other.count
        return self.counts.expand_as(self.mean), other.counts.expand_as(other.mean)

    def _check_same_space(self, other: Evidence) -> None:
        if self.dim != other.dim:
            raise UserError(f"evidence: expected dimension {self.dim}, got {other.dim}")
        try:
            torch.broadcast_shapes(self.batch_shape, other.batch_shape)
        except RuntimeError:
            raise UserError(
                f"evidence: expected a batch shape that broadcasts with {tuple(self.batch_shape)}, "
                f"got {tuple(other.batch_shape)}"
            ) from None


def checked_elements(z: Tensor) -> Tensor:
    """Return ``z`` in float64 after checking that it is a finite floating ``(*B, n, D)``."""
    check_floating("z", z)
    if z.dim() < 2 or z.shape[-1] < 1:
        raise UserError(f"z: expected shape (*B, n, D), got {tuple(z.shape)}")
    z = z.double()
    check_finite("z", z)
    return z


def _divided(part: Tensor, whole: Tensor) -> Tensor:
    """Return ``part / whole``, and ``part`` where the whole is 0."""
    return part / torch.where(whole == 0, torch.ones_like(whole), whole)
