"""Where and when figures were measured."""

from __future__ import annotations

import datetime
import os
import platform
from typing import Any

import torch


def provenance() -> dict[str, Any]:
    """Return date, machine and version of torch, as they are kept beside every figure."""
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs",
        "torch": torch.__version__,
    }
