import pytest
import torch

from bruno import Bruno, ExchangeableGaussian, ExchangeableStudentT, RealNVP
from bruno.data.dataset import LabelledImages


def make_dataset(*, classes: int = 6, size: int = 5, separable: bool = True) -> LabelledImages:
    """8 x 8 images: every class its own random pattern plus a little noise, or all pure noise."""
    generator = torch.Generator().manual_seed(1)
    shape = (classes, size, 1, 8, 8)
    if separable:
        pattern = torch.randint(20, 230, (classes, 1, 1, 8, 8), generator=generator)
        images = pattern + torch.randint(0, 3, shape, generator=generator)
    else:
        images = torch.randint(100, 140, shape, generator=generator)
    return LabelledImages(
        images=images.flatten(0, 1).to(torch.uint8),
        labels=torch.arange(classes).repeat_interleave(size),
        class_names=tuple(f"class {index}" for index in range(classes)),
        name="synthetic",
        split="test",
    )


def make_model(process: str = "gaussian", context_dim: int = 0) -> Bruno:
    """A dense flow on 8 x 8 images, untrained, with strongly correlated latents."""
    generator = torch.Generator().manual_seed(2)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        flow = RealNVP(
            (1, 8, 8), context_dim, preset="dense", dense_units=16, dense_couplings=2
        ).double()
    covariance = 0.5 + 0.4 * torch.rand(64, generator=generator)
    kind = {"gaussian": ExchangeableGaussian, "student_t": ExchangeableStudentT}[process]
    return Bruno(flow, kind.from_parameters(torch.ones(64), covariance))


@pytest.fixture
def dataset() -> LabelledImages:
    return make_dataset()


@pytest.fixture
def model() -> Bruno:
    return make_model()
