"""Bijections between data and latent vectors, with exact log-determinants and inverses."""

from bruno.flows.architectures import ARCHITECTURES
from bruno.flows.bijection import Bijection
from bruno.flows.flow import Flow
from bruno.flows.realnvp import RealNVP
from bruno.flows.transform import FlowTransform

__all__ = ["ARCHITECTURES", "Bijection", "Flow", "FlowTransform", "RealNVP"]
