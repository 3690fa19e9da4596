"""Bijections between data and latent vectors, with exact log-determinants and inverses."""

from bruno.flows.bijection import Bijection
from bruno.flows.presets import PRESETS
from bruno.flows.realnvp import RealNVP
from bruno.flows.transform import FlowTransform

__all__ = ["PRESETS", "Bijection", "FlowTransform", "RealNVP"]
