"""The processes and devices of a run, by Hugging Face Accelerate."""

from __future__ import annotations

import os

from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState

from bruno.device import resolve_device
from bruno.errors import UserError

_VARIABLES = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


def start_accelerator(device: str) -> Accelerator:
    """Return an accelerator on a device, joined with the other processes of a launch.

    Accelerate remembers the device of a process for good; outside a distributed launch, where it
    cannot change, an earlier choice is forgotten first.

    Args:
        device: ``auto``, ``cpu`` or ``cuda``.

    Raises:
        UserError: If the device is not there, or the environment asks for several processes that
            cannot be joined.
    """
    device = resolve_device(device)
    if PartialState._shared_state and not PartialState().use_distributed:
        AcceleratorState._reset_state(reset_partial_state=True)
    environment = dict(os.environ)
    try:
        return Accelerator(cpu=device == "cpu")
    except (ValueError, RuntimeError, OSError) as error:
        # Accelerate fills in variables before it fails.
        os.environ.clear()
        os.environ.update(environment)
        AcceleratorState._reset_state(reset_partial_state=True)
        given = [f"{name}={environment[name]}" for name in _VARIABLES if name in environment]
        if not given:
            raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"the environment ({', '.join(given)}) asks for one of several processes, which "
            f"cannot be joined: {reason}; start all of them with torchrun or accelerate launch, "
            "or unset these variables"
        ) from error
