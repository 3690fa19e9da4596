"""Every layer keeps the same laws, alone; a new layer needs a line here."""

import inspect

import pytest
import torch
from torch import nn

import bruno.flows
from bruno.flows import Bijection
from bruno.flows.affine import (
    ActivationNorm,
    DiscreteCosineTransform,
    FullAffine,
    InvertibleConv1x1,
    LowRankAffine,
)
from bruno.flows.block_sums import BlockSums
from bruno.flows.conditioners import DenseConditioner, ResidualConditioner
from bruno.flows.context import ContextRotation, EncodedContext
from bruno.flows.coupling import Coupling, MaskedCoupling, SplitCoupling
from bruno.flows.lattice import LatticeGaussianisation
from bruno.flows.masks import checkerboard_mask
from bruno.flows.preprocessing import PixelGaussianisation, PixelLogit
from bruno.flows.reshape import (
    Chain,
    FactorOut,
    Flatten,
    IndexedSubset,
    Squeeze,
    StridedSubset,
    Unsqueeze,
)
from bruno.flows.spline import SplineCoupling
from bruno.flows.yeo_johnson import YeoJohnson
from bruno.seeding import generator_for

IMAGE, CHANNELS, VECTOR = (1, 4, 4), (4, 2, 2), (6,)


def encoded_context():
    coupling = SplitCoupling(slice(3), slice(3, None), DenseConditioner(3, 6, 4, 32))
    return EncodedContext([0, 2], coupling)


LAYERS = {
    "activation norm of images": (lambda: ActivationNorm(4), CHANNELS),
    "activation norm of vectors": (lambda: ActivationNorm(6), VECTOR),
    "1x1 convolution": (lambda: InvertibleConv1x1(4), CHANNELS),
    "1x1 convolution of vectors": (lambda: InvertibleConv1x1(6), VECTOR),
    "cosine transform": (lambda: DiscreteCosineTransform(*CHANNELS), CHANNELS),
    "full affine": (lambda: FullAffine(6), VECTOR),
    "low-rank affine": (lambda: LowRankAffine(6, 2), VECTOR),
    "Yeo-Johnson": (lambda: YeoJohnson(6), VECTOR),
    "masked coupling": (
        lambda: MaskedCoupling(checkerboard_mask(4, 4), ResidualConditioner(1, 2, 3, 1)),
        IMAGE,
    ),
    "split coupling": (
        lambda: SplitCoupling(slice(3), slice(3, None), ResidualConditioner(3, 2, 3, 1)),
        CHANNELS,
    ),
    "spline coupling": (
        lambda: SplineCoupling(
            slice(3), slice(3, None), ResidualConditioner(3, 11, 3, 1), bins=4, bound=150.0
        ),
        CHANNELS,
    ),
    "spline coupling of vectors": (
        lambda: SplineCoupling(slice(3), slice(3, None), DenseConditioner(3, 33, 4), bins=4),
        VECTOR,
    ),
    "context rotation": (lambda: ContextRotation(6, [1]), VECTOR),
    "encoded context": (encoded_context, VECTOR),
    "lattice": (lambda: LatticeGaussianisation(1, 4, 4, (3, 3), 1, groups=5), IMAGE),
    "block sums": (lambda: BlockSums(Flatten(4, 1, 1), IMAGE, pixel_units=4), IMAGE),
    "logit": (PixelLogit, IMAGE),
    "marginal Gaussianisation": (PixelGaussianisation, IMAGE),
    "squeeze": (Squeeze, IMAGE),
    "unsqueeze": (Unsqueeze, CHANNELS),
    "flatten": (lambda: Flatten(*CHANNELS), CHANNELS),
    "chain": (lambda: Chain([ActivationNorm(4), InvertibleConv1x1(4)]), CHANNELS),
    "factor out": (lambda: FactorOut(ActivationNorm(2)), CHANNELS),
    "indexed subset": (lambda: IndexedSubset(2, ActivationNorm(2)), VECTOR),
    "strided subset": (
        lambda: StridedSubset(4, 4, Chain([ActivationNorm(1), Flatten(1, 2, 2)])),
        IMAGE,
    ),
}
WITHOUT_PARAMETERS = {
    *("cosine transform", "full affine", "low-rank affine", "context rotation", "logit"),
    "Yeo-Johnson",
    *("marginal Gaussianisation", "squeeze", "unsqueeze", "flatten"),
}
layers = pytest.mark.parametrize("name", LAYERS)


def make(name):
    """Return a layer away from its start, a batch it was initialised on, and the context."""
    build, shape = LAYERS[name]
    generator = generator_for(1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layer = build().double()
    x = torch.rand(16, *shape, generator=generator, dtype=torch.float64)
    x = 256 * x if len(shape) == 3 else 4 * x - 2
    context = torch.randn(16, 3, generator=generator, dtype=torch.float64)
    context = context if "context" in name else None
    with torch.no_grad():
        latent = layer.initialise(x, context)
        torch.testing.assert_close(latent, layer(x, context)[0])
        for parameter in layer.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator).double())
    return layer, x, context


def test_no_layer_is_left_out():
    def below(kind):
        return {kind, *(one for child in kind.__subclasses__() for one in below(child))}

    package = bruno.flows.__name__
    concrete = {kind for kind in below(Bijection) if kind.__module__.startswith(package)}
    concrete = {kind for kind in concrete if not inspect.isabstract(kind)} - {Coupling}
    assert concrete == {type(LAYERS[name][0]()) for name in LAYERS}


@layers
@torch.no_grad()
def test_round_trip(name):
    layer, x, context = make(name)
    z, log_det = layer(x, context)
    assert log_det.shape == (16,)
    assert z.numel() == x.numel()
    back, inverse_log_det = layer.inverse(z, context)
    torch.testing.assert_close(back, x, rtol=0, atol=1e-8)
    torch.testing.assert_close(inverse_log_det, -log_det, rtol=1e-9, atol=1e-8)


@layers
def test_log_determinants_are_those_of_the_jacobians(name):
    layer, x, context = make(name)
    x, context = x[:1], None if context is None else context[:1]
    z, log_det = layer(x, context)
    for way, start, found in (
        (layer, x, log_det),
        (layer.inverse, z.detach(), layer.inverse(z.detach(), context)[1]),
    ):
        jacobian = torch.autograd.functional.jacobian(lambda v, way=way: way(v, context)[0], start)
        square = jacobian.reshape(start.numel(), start.numel())
        expected = torch.linalg.slogdet(square).logabsdet
        assert float(found.detach()) == pytest.approx(float(expected), abs=1e-8)


@layers
def test_gradients_reach_every_parameter(name):
    layer, x, context = make(name)
    assert (not list(layer.parameters())) == (name in WITHOUT_PARAMETERS)
    if name in WITHOUT_PARAMETERS:
        return
    z, log_det = layer(x, context)
    weights = torch.linspace(0.5, 1.5, z[0].numel()).double().view(z[0].shape)
    ((z.square() * weights).sum() - log_det.sum()).backward()
    for parameter_name, parameter in layer.named_parameters():
        assert isinstance(parameter, nn.Parameter)
        assert parameter.grad is not None, parameter_name
        assert bool((parameter.grad != 0).any()), parameter_name
