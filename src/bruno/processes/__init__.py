"""Exchangeable processes, one per latent dimension, in closed form."""

from bruno.processes.base import ExchangeableProcess
from bruno.processes.gaussian import ExchangeableGaussian
from bruno.processes.student_t import ExchangeableStudentT

__all__ = ["ExchangeableGaussian", "ExchangeableProcess", "ExchangeableStudentT"]
