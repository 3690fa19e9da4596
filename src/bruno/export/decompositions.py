"""Functions that ONNX lacks, or its runtimes have in single precision only, from elementary ones.

Every one agrees with torch's in all digits that the precision of its argument has.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

# W. J. Cody, Rational Chebyshev approximations for the error function, Math. Comp. 1969, as
# coefficients of the normal distribution function: around 0, to sqrt(32), and beyond.
_NEAR = (
    (0.065682337918207449113, 2.2352520354606839287, 161.02823106855587881, 1067.6894854603709582,
     18154.981253343561249),
    (1.0, 47.20258190468824187, 976.09855173777669322, 10260.932208618978205,
     45507.789335026729956),
)  # fmt: skip
_MIDDLE = (
    (1.0765576773720192317e-8, 0.39894151208813466764, 8.8831497943883759412,
     93.506656132177855979, 597.27027639480026226, 2494.5375852903726711, 6848.1904505362823326,
     11602.651437647350124, 9842.7148383839780218),
    (1.0, 22.266688044328115691, 235.38790178262499861, 1519.377599407554805, 6485.558298266760755,
     18615.571640885098091, 34900.952721145977266, 38912.003286093271411, 19685.429676859990727),
)  # fmt: skip
_FAR = (
    (0.02307344176494017303, 0.21589853405795699, 0.1274011611602473639, 0.022235277870649807,
     0.001421619193227893466, 2.9112874951168792e-5),
    (1.0, 1.28426009614491121, 0.468238212480865118, 0.0659881378689285515,
     0.00378239633202758244, 7.29751555083966205e-5),
)  # fmt: skip
_NEAR_UNTIL, _MIDDLE_UNTIL = 0.67448975, math.sqrt(32)

# M. J. Wichura, Algorithm AS 241: the percentage points of the normal distribution, Applied
# Statistics 1988: the centre, the tails, and the far tails.
_CENTRE = (
    (2509.0809287301226727, 33430.575583588128105, 67265.770927008700853, 45921.953931549871457,
     13731.693765509461125, 1971.5909503065514427, 133.14166789178437745, 3.387132872796366608),
    (5226.495278852545925, 28729.085735721942674, 39307.89580009271061, 21213.794301586595867,
     5394.1960214247511077, 687.1870074920579083, 42.313330701600911252, 1.0),
)  # fmt: skip
_TAIL = (
    (7.7454501427834140764e-4, 0.0227238449892691845833, 0.24178072517745061177,
     1.27045825245236838258, 3.64784832476320460504, 5.7694972214606914055, 4.6303378461565452959,
     1.42343711074968357734),
    (1.05075007164441684324e-9, 5.475938084995344946e-4, 0.0151986665636164571966,
     0.14810397642748007459, 0.68976733498510000455, 1.6763848301838038494, 2.05319162663775882187,
     1.0),
)  # fmt: skip
_FAR_TAIL = (
    (2.01033439929228813265e-7, 2.71155556874348757815e-5, 0.0012426609473880784386,
     0.026532189526576123093, 0.29656057182850489123, 1.7848265399172913358, 5.4637849111641143699,
     6.6579046435011037772),
    (2.04426310338993978564e-15, 1.4215117583164458887e-7, 1.8463183175100546818e-5,
     7.868691311456132591e-4, 0.0148753612908506148525, 0.13692988092273580531,
     0.59983220655588793769, 1.0),
)  # fmt: skip

# Stirling's series for arguments of at least this.
_STIRLING_SHIFT = 8
_STIRLING = (-691 / 360360, 1 / 1188, -1 / 1680, 1 / 1260, -1 / 360, 1 / 12)


class ElementaryFunctions(TorchFunctionMode):
    """Replaces functions by elementary ones while a model is traced.

    Replacing them in a graph that is traced already would take as long as tracing it.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call a function or its replacement, if there is one for its arguments."""
        kwargs = kwargs or {}
        replacement = _REPLACEMENTS.get(func)
        result = NotImplemented if replacement is None else replacement(*args, **kwargs)
        return func(*args, **kwargs) if result is NotImplemented else result


def ndtr(x: Tensor) -> Tensor:
    """Return the standard normal distribution function, with all its digits in the lower tail."""
    size = x.abs()
    near = x * _ratio(size.clamp_max(_NEAR_UNTIL).square(), _NEAR)
    middle = _ratio(size.clamp(max=_MIDDLE_UNTIL), _MIDDLE)
    reciprocal = size.clamp_min(_MIDDLE_UNTIL).square().reciprocal()
    far = (1 / math.sqrt(2 * math.pi) - reciprocal * _ratio(reciprocal, _FAR)) / size.clamp_min(1)
    # exp(-x²/2) from a square without rounding error, and the rest.
    coarse = (size * 16).trunc() / 16
    density = (-0.5 * coarse.square()).exp() * (-0.5 * (size - coarse) * (size + coarse)).exp()
    tail = density * torch.where(size <= _MIDDLE_UNTIL, middle, far)
    outside = torch.where(x > 0, 1 - tail, tail)
    return torch.where(size <= _NEAR_UNTIL, 0.5 + near, outside)


def ndtri(p: Tensor) -> Tensor:
    """Return the quantiles of the standard normal distribution, for probabilities in (0, 1)."""
    q = p - 0.5
    centre = q * _ratio(0.180625 - q.square().clamp_max(0.180625), _CENTRE)
    r = (-torch.where(q < 0, p, 1 - p).log()).sqrt()
    tail = torch.where(
        r <= 5, _ratio(r.clamp(1.6, 5) - 1.6, _TAIL), _ratio(r.clamp_min(5) - 5, _FAR_TAIL)
    )
    return torch.where(q.abs() <= 0.425, centre, torch.where(q < 0, -tail, tail))


def lgamma(a: Tensor) -> Tensor:
    """Return log Γ of positive numbers."""
    shifted = a + _STIRLING_SHIFT
    product = a
    for step in range(1, _STIRLING_SHIFT):
        product = product * (a + step)
    series = _polynomial(shifted.square().reciprocal(), _STIRLING) / shifted
    stirling = (shifted - 0.5) * shifted.log() - shifted + 0.5 * math.log(2 * math.pi) + series
    return stirling - product.log()


def elu(x: Tensor, alpha: float = 1.0, inplace: bool = False) -> Any:  # noqa: ARG001
    """Return the exponential linear unit; runtimes have it in single precision only.

    Args:
        x: The values.
        alpha: Its negative limit is minus this.
        inplace: Without effect here.
    """
    if x.dtype != torch.float64:
        return NotImplemented
    return torch.where(x > 0, x, alpha * (x.clamp_max(0).exp() - 1))


def gelu(x: Tensor, approximate: str = "none") -> Any:
    """Return the Gaussian error linear unit; runtimes have it in single precision only.

    Args:
        x: The values.
        approximate: ``none``; approximations are left as they are.
    """
    if x.dtype != torch.float64 or approximate != "none":
        return NotImplemented
    return x * ndtr(x)


def searchsorted(
    sorted_sequence: Tensor, values: Tensor, *, right: bool = False, **_: Any
) -> Tensor:
    """Return where values would be inserted into an ascending vector.

    Args:
        sorted_sequence: The vector.
        values: The values, of any shape.
        right: Whether behind equal numbers.
    """
    wide = values.unsqueeze(-1)
    return (sorted_sequence <= wide if right else sorted_sequence < wide).sum(-1)


def pixel_shuffle(x: Tensor, upscale_factor: int) -> Any:
    """Return channels as blocks of pixels; runtimes have it for floating-point numbers only.

    Args:
        x: Images, ``(*B, C, H, W)``.
        upscale_factor: Height and width of a block.
    """
    if x.dtype.is_floating_point:
        return NotImplemented
    blocks = x.unflatten(-3, (-1, upscale_factor, upscale_factor))
    return blocks.movedim(-3, -1).movedim(-4, -3).flatten(-2).flatten(-3, -2)


def convolution(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> Any:
    """Return a convolution in double precision as one matrix product for every tap.

    Args:
        x: Images ``(B, C, H, W)``.
        weight: Taps ``(O, C, h, w)``.
        bias: Added to every channel, ``(O,)``.
        stride: 1; other convolutions, and those in single precision, are left as they are.
        padding: Zeros around the image, such that its size stays.
        dilation: 1.
        groups: 1.
    """
    is_plain = groups == 1 and {*_pair(stride), *_pair(dilation)} == {1}
    if x.dtype != torch.float64 or not is_plain:
        return NotImplemented
    height, width = x.shape[2], x.shape[3]
    down, right = _pair(padding)
    padded = torch.nn.functional.pad(x, (right, right, down, down)).movedim(1, -1)
    total: Tensor | None = None
    for row in range(weight.shape[2]):
        for column in range(weight.shape[3]):
            seen = padded[:, row : row + height, column : column + width]
            product = seen @ weight[:, :, row, column].T
            total = product if total is None else total + product
    assert total is not None  # noqa: S101 - a kernel has a tap
    return (total if bias is None else total + bias).movedim(-1, 1)


def _pair(sizes: int | Sequence[int]) -> tuple[int, ...]:
    return (sizes, sizes) if isinstance(sizes, int) else tuple(sizes)


def exact_scalar(s: float, dtype: int = 1, **_: Any) -> Any:
    """Return a number as an ONNX constant; the exporter's own passes through single precision.

    Args:
        s: The number.
        dtype: The ONNX type of the constant.
    """
    import numpy as np
    import onnx_ir as ir
    from onnxscript import opset20 as op

    kind = ir.DataType(dtype)
    value: Any = ir.tensor(np.array(s, kind.numpy()), kind)
    return op.Constant(value=value)


def _polynomial(x: Tensor, coefficients: Sequence[float]) -> Tensor:
    """Return a polynomial by Horner's rule, highest power first."""
    result = x * coefficients[0] + coefficients[1]
    for coefficient in coefficients[2:]:
        result = result * x + coefficient
    return result


def _ratio(x: Tensor, coefficients: tuple[Sequence[float], Sequence[float]]) -> Tensor:
    numerator, denominator = coefficients
    return _polynomial(x, numerator) / _polynomial(x, denominator)


_REPLACEMENTS: dict[Any, Callable[..., Any]] = {
    torch.special.ndtr: ndtr,
    torch.special.ndtri: ndtri,
    torch.lgamma: lgamma,
    torch.searchsorted: searchsorted,
    torch.conv2d: convolution,
    torch.pixel_shuffle: pixel_shuffle,
    torch.nn.functional.elu: elu,
    torch.nn.functional.gelu: gelu,
}
