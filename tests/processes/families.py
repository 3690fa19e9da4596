"""Processes that go through the same laws, and sets that really come from them."""

import pytest
import torch

from bruno import ExchangeableGaussian, ExchangeableStudentT
from bruno.seeding import generator_for

FAMILIES = {
    "gaussian": lambda dim, correlation=0.5: ExchangeableGaussian.from_parameters(
        variance=torch.linspace(0.5, 2.0, dim, dtype=torch.float64),
        covariance=correlation * torch.linspace(0.5, 2.0, dim, dtype=torch.float64),
        loc=torch.linspace(-1.0, 1.0, dim, dtype=torch.float64),
    ),
    "student_t": lambda dim, correlation=0.5: ExchangeableStudentT.from_parameters(
        variance=torch.linspace(0.5, 2.0, dim, dtype=torch.float64),
        covariance=correlation * torch.linspace(0.5, 2.0, dim, dtype=torch.float64),
        loc=torch.linspace(-1.0, 1.0, dim, dtype=torch.float64),
        df=torch.linspace(2.5, 30.0, dim, dtype=torch.float64),
    ),
}
family = pytest.mark.parametrize("make", FAMILIES.values(), ids=FAMILIES.keys())
CORRELATIONS = [0.0, 0.1, 0.9, 0.9999]


def draw(process, *shape, seed=0):
    """Return sets that really come from the process, so that no test is about outliers."""
    generator = generator_for(seed)
    noise = torch.randn(*shape, process.dim, generator=generator, dtype=torch.float64)
    shared = torch.randn(*shape[:-1], 1, process.dim, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        return process.loc + shared * process.covariance.sqrt() + noise * process.noise.sqrt()
