"""Random generators as a pure function of seed and purpose."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from bruno.validation import check_generator, check_whole


def generator_for(*key: int, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a generator that depends only on ``key``, a few non-negative integers.

    Naming a stream of randomness by (seed, purpose, step, ...) instead of carrying a generator
    along makes every step reproducible on its own, which is what exact resuming needs. Trailing
    zeros of a key do not count: ``(5,)`` and ``(5, 0)`` are one stream.

    Args:
        key: Non-negative integers, the seed first.
        device: Device of the generator.

    Raises:
        UserError: If one of them is negative or no integer.

    Example:
        >>> bool((torch.rand(3, generator=generator_for(0, 7))
        ...       == torch.rand(3, generator=generator_for(0, 7))).all())
        True
    """
    for number in key:
        check_whole("seed", number, 0)
    seed = int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0])
    return torch.Generator(device=device).manual_seed(seed & (2**63 - 1))


def uniform(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Return float32 draws from [0, 1), on the generator's device, whatever torch's defaults are.

    Args:
        shape: Shape of the result.
        generator: Source of randomness.

    Raises:
        UserError: If ``generator`` is something else, such as a seed.
    """
    check_generator("generator", generator)
    return torch.rand(shape, generator=generator, device=generator.device, dtype=torch.float32)
