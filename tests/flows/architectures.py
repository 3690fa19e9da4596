"""Small flows of every registered architecture, away from their initialisation."""

import dataclasses

import torch

from bruno import RealNVP
from bruno.flows import ARCHITECTURES
from bruno.seeding import generator_for

# The smallest colour image where 3 x 4 x 4 cannot be halved often enough.
_COLOUR = {"conditional-paper": (3, 8, 8)}


def _small(name, value):
    """Return a size at which a Jacobian is cheap."""
    if isinstance(value, tuple):
        return tuple(_small(name, one) for one in value)
    return min(value, 2 if "couplings" in name else 1 if "blocks" in name else 8)


def small_sizes(preset):
    fields = dataclasses.fields(ARCHITECTURES[preset].sizes)
    return {field.name: _small(field.name, field.default) for field in fields if field.default}


def _cases():
    """Name, event shape, context size, positions of angles and preset of every case."""
    for preset, architecture in ARCHITECTURES.items():
        shapes = [(1, 8, 8), _COLOUR.get(preset, (3, 4, 4))] * architecture.takes_images
        shapes += [(5,)] * architecture.takes_vectors
        for shape in shapes:
            name = f"{preset}, {'x'.join(map(str, shape))}"
            yield name, shape, 0, (), preset
        if architecture.takes_context:
            yield f"{preset}, context", shapes[0], 3, (), preset
    yield "compact, rotated", (1, 6, 6), 3, (1,), "compact"
    yield "compact, only rotated", (1, 6, 6), 2, (0,), "compact"
    yield "compact, odd at a quarter", (1, 6, 10), 0, (), "compact"
    yield "dense, rotated vector", (15,), 3, (0,), "dense"


CASES = {name: rest for name, *rest in _cases()}


def batch(event_shape, *shape, seed=0, dtype=torch.float64):
    generator = generator_for(seed)
    x = torch.rand(*shape, *event_shape, generator=generator, dtype=dtype)
    return 256 * x if len(event_shape) == 3 else 4 * x - 2


def make_context(context_dim, *shape, dtype=torch.float64, seed=7):
    if not context_dim:
        return None
    return torch.randn(*shape, context_dim, generator=generator_for(seed), dtype=dtype)


def make_flow(name, dtype=torch.float64, perturb=True):
    """Return a flow whose couplings are no identities."""
    event_shape, context_dim, angles, preset = CASES[name]
    with torch.random.fork_rng():
        torch.manual_seed(1)
        flow = RealNVP(
            event_shape, context_dim, preset, context_angles=angles, **small_sizes(preset)
        ).to(dtype)
        context = torch.randn(16, context_dim, dtype=dtype) if context_dim else None
        flow.initialise(batch(event_shape, 16, dtype=dtype), context)
        if perturb:
            with torch.no_grad():
                for parameter in flow.parameters():
                    parameter.add_(0.05 * torch.randn_like(parameter))
    return flow
