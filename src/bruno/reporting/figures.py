"""Figures and axes for pictures, their colours and their resolution."""

from __future__ import annotations

import io

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from bruno.errors import UserError

BLUE, VERMILION = "#0072B2", "#D55E00"
DPI = 144
"""Resolution of figures made here; image grids show every pixel as at least 3 x 3 of theirs."""


def to_png(axes: Axes) -> bytes:
    """Return the whole figure these axes are on, as a PNG file.

    Raises:
        UserError: If they are on none.
    """
    figure = axes.get_figure(root=True)
    if not isinstance(figure, Figure):
        raise UserError("axes: expected axes on a figure, got axes without one")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", bbox_inches="tight", dpi=DPI)
    return buffer.getvalue()


def line_axes() -> Axes:
    """Return axes for curves on a figure of their own."""
    ax = new_axes((6.0, 3.6))
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(alpha=0.25, lw=0.6)
    return ax


def new_axes(size: tuple[float, float]) -> Axes:
    """Return the only axes of a new figure of a size in inches, width and height."""
    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure.add_subplot()
