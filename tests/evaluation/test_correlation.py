import torch

from bruno import ExchangeableStudentT
from bruno.evaluation import correlated_dimensions


def test_counts_the_ratio_of_covariance_to_variance_strictly_above():
    process = ExchangeableStudentT.from_parameters(
        variance=torch.tensor([4.0, 4.0, 1.0, 2.0]), covariance=torch.tensor([2.0, 0.0, 0.9, 0.2])
    )
    counts = correlated_dimensions(process, torch.tensor([0.0, 0.2, 0.6, 0.95]))
    assert counts.tolist() == [3, 2, 1, 0]
