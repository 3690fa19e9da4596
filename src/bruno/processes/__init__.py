"""Exchangeable processes, one per latent dimension, in closed form."""

from bruno.processes.base import ExchangeableProcess
from bruno.processes.gaussian import ExchangeableGaussian
from bruno.processes.student_t import ExchangeableStudentT

PROCESSES: dict[str, type[ExchangeableProcess]] = {
    "gaussian": ExchangeableGaussian,
    "student_t": ExchangeableStudentT,
}
"""By name, as files and ``process`` arguments have them."""

__all__ = ["PROCESSES", "ExchangeableGaussian", "ExchangeableProcess", "ExchangeableStudentT"]
