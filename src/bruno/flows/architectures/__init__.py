"""The registry of flows: every architecture by name. A new one is a file here and a line below."""

from bruno.flows.architectures.affine import AFFINE, DIAGONAL
from bruno.flows.architectures.architecture import Architecture
from bruno.flows.architectures.compact import COMPACT
from bruno.flows.architectures.dense import DENSE
from bruno.flows.architectures.lattice import LATTICE
from bruno.flows.architectures.paper import CONDITIONAL_PAPER, PAPER
from bruno.flows.architectures.spectral import SPECTRAL
from bruno.flows.architectures.sums import SUMS

ARCHITECTURES: dict[str, Architecture] = {
    "paper": PAPER,
    "conditional-paper": CONDITIONAL_PAPER,
    "compact": COMPACT,
    "lattice": LATTICE,
    "spectral": SPECTRAL,
    "sums": SUMS,
    "dense": DENSE,
    "affine": AFFINE,
    "diagonal": DIAGONAL,
}
"""By name, as ``preset`` of :class:`~bruno.RealNVP`."""

__all__ = ["ARCHITECTURES", "Architecture"]
