r"""Sufficient statistics in whole numbers, which additions and subtractions leave exact.

Sums of floats depend on their order and keep a rounding error of what was subtracted again. Here
latent vectors are rounded to multiples of :math:`2^{-24}` (the precision of float32 near 1), and
their sum and sum of squares are kept as whole numbers. They form a commutative group: the
statistics of a set are the same bits in whatever order its elements came, and after an element is
forgotten they are the bits of a set that never had it. A digest of them proves it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray

from bruno.errors import UserError
from bruno.evidence import Evidence

Integers = NDArray[np.int64]

FRACTION_BITS = 24
"""Latent vectors are kept as multiples of two to minus this power."""

LARGEST = 2**15
"""Latent coordinates must be smaller than this; those of training data are near 1."""

MOST_ELEMENTS = 2**22
"""Elements of a set, up to which no sum leaves 64 bits."""

_HALF = 20  # bits of the lower part of a coordinate
_LOW = 40  # bits of the lower part of a square
_TYPE = np.dtype("<i8")


def fixed_point(z: NDArray[np.float64]) -> Integers:
    """Return latent vectors as whole multiples of ``2 ** -FRACTION_BITS``, int64 ``(n, D)``.

    Args:
        z: Latent vectors, ``(n, D)``.

    Raises:
        UserError: If a coordinate is not finite or not below :data:`LARGEST`.

    Example:
        >>> fixed_point(np.array([[0.5, -1.0]])) / 2**24
        array([[ 0.5, -1. ]])
    """
    if not bool((np.abs(z) < LARGEST).all()):
        raise UserError(
            f"example: expected one whose latent coordinates are below {LARGEST}, got one further "
            "from anything the model was trained on"
        )
    return np.rint(z * 2.0**FRACTION_BITS).astype(np.int64)


@dataclass(frozen=True, eq=False)
class ExactEvidence:
    """Count, sum and sum of squares of fixed-point vectors, exactly; immutable.

    Attributes:
        count: Number of elements.
        sums: int64 ``(3, D)``: the sum, and the sum of squares as ``high * 2**40 + low`` with
            ``0 <= low < 2**40``.

    Example:
        >>> one, other = fixed_point(np.array([[0.25]])), fixed_point(np.array([[0.75]]))
        >>> both = ExactEvidence.of(one) + ExactEvidence.of(other)
        >>> (both - ExactEvidence.of(one)).digest() == ExactEvidence.of(other).digest()
        True
    """

    count: int
    sums: Integers

    @classmethod
    def empty(cls, dim: int) -> Self:
        """Return the evidence of no elements, of dimension ``dim``."""
        return cls(0, np.zeros((3, dim), dtype=np.int64))

    @classmethod
    def of(cls, vectors: Integers) -> Self:
        """Return the evidence of fixed-point vectors, int64 ``(n, D)``.

        Raises:
            UserError: If there are more than :data:`MOST_ELEMENTS`.
        """
        _check_count(len(vectors))
        size = np.abs(vectors)
        upper, lower = size >> _HALF, size & (2**_HALF - 1)
        # (u 2^20 + l)^2 = u^2 2^40 + 2 u l 2^20 + l^2, with the middle term split in two.
        middle = (2 * upper * lower).sum(0)
        high = (upper * upper).sum(0) + (middle >> _HALF)
        low = (lower * lower).sum(0) + ((middle & (2**_HALF - 1)) << _HALF)
        return cls(len(vectors), _carried(np.stack([vectors.sum(0), high, low])))

    @classmethod
    def rounded(cls, evidence: Evidence) -> Self:
        """Return the nearest whole statistics of evidence in floats, of batch shape ``()``.

        Raises:
            UserError: If it is of too many elements or too far away.
        """
        count = int(evidence.count)
        _check_count(count)
        mean = evidence.mean.cpu().numpy()
        fixed_point(mean[None])
        total = np.rint(mean * count * 2.0**FRACTION_BITS).astype(np.int64)
        scatter = evidence.scatter.cpu().numpy() * 4.0**FRACTION_BITS
        squares = [
            (int(t) * int(t) + count * round(w)) // max(1, count)
            for t, w in zip(total, scatter, strict=True)
        ]
        high = np.array([square >> _LOW for square in squares], dtype=np.int64)
        low = np.array([square & (2**_LOW - 1) for square in squares], dtype=np.int64)
        return cls(count, np.stack([total, high, low]))

    @classmethod
    def from_bytes(cls, count: int, data: bytes) -> Self:
        """Return what :meth:`to_bytes` wrote.

        Args:
            count: Number of elements.
            data: The sums.
        """
        return cls(count, np.frombuffer(data, _TYPE).reshape(3, -1).astype(np.int64))

    def to_bytes(self) -> bytes:
        """Return the sums as bytes, the same on every machine."""
        return self.sums.astype(_TYPE).tobytes()

    @property
    def dim(self) -> int:
        """Dimension of an element."""
        return int(self.sums.shape[1])

    def digest(self) -> str:
        """Return the SHA-256 of count and sums, in hexadecimal."""
        return hashlib.sha256(self.count.to_bytes(8, "little") + self.to_bytes()).hexdigest()

    def __add__(self, other: ExactEvidence) -> ExactEvidence:
        """Return the evidence of the union of two disjoint sets."""
        count = self.count + other.count
        _check_count(count)
        return ExactEvidence(count, _carried(self.sums + other.sums))

    def __sub__(self, other: ExactEvidence) -> ExactEvidence:
        """Return the evidence of the elements that are left after others are forgotten.

        Raises:
            UserError: If no subset of the elements can have the evidence ``other``.
        """
        left = ExactEvidence(self.count - other.count, _carried(self.sums - other.sums))
        if left.count < 0 or not left.is_possible():
            raise UserError(
                "forget: expected examples that are part of this class; these have statistics that "
                "none of its examples can have"
            )
        return left

    def is_possible(self) -> bool:
        """Return whether some elements have these statistics (Cauchy-Schwarz, in whole numbers)."""
        if self.count == 0:
            return not self.sums.any()
        excess = self._scatter_times_count()
        return all(e == 0 for e in excess) if self.count == 1 else all(e >= 0 for e in excess)

    def evidence(self) -> Evidence:
        """Return count, mean and scatter in float64, each correctly rounded."""
        count = max(1, self.count)
        scale = count << (2 * FRACTION_BITS)
        mean = self.sums[0] / (count * 2.0**FRACTION_BITS)
        # The difference of two numbers of 90 bits: in floats it would be lost.
        scatter = [excess / scale for excess in self._scatter_times_count()]
        return Evidence(
            torch.tensor(self.count, device="cpu", dtype=torch.int64),
            torch.from_numpy(mean.astype(np.float64)),
            torch.tensor(scatter, dtype=torch.float64, device="cpu"),
        )

    def _scatter_times_count(self) -> list[int]:
        total, high, low = self.sums.tolist()
        return [
            self.count * ((h << _LOW) + rest) - t * t
            for t, h, rest in zip(total, high, low, strict=True)
        ]


def _carried(sums: Integers) -> Integers:
    """Return sums with the low part of squares in its range, which it may be below or above."""
    total, high, low = sums
    return np.stack([total, high + (low >> _LOW), low & (2**_LOW - 1)])


def _check_count(count: int) -> None:
    if count > MOST_ELEMENTS:
        raise UserError(f"examples: expected at most {MOST_ELEMENTS} of a class, got {count}")
