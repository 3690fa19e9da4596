"""Learning rate schedule over steps or wall-clock time."""

from __future__ import annotations

import math
import time

from bruno.training.config import TrainingConfig

_USUAL_STEPS = 2000


def schedule(training: TrainingConfig, step: int, seconds: float) -> tuple[float, float]:
    """Return the share of the schedule that is done and the factor on the learning rates.

    Linear warm-up over ``warmup_steps``, then a cosine from 1 to 0, over the steps or over
    wall-clock time, whichever is further.

    Args:
        training: The schedule.
        step: Steps done.
        seconds: Seconds spent.
    """
    steps, minutes = training.steps, training.max_minutes
    if steps is None and minutes is None:
        steps = _USUAL_STEPS
    by_step = 0.0 if steps is None else step / steps
    by_clock = 0.0 if minutes is None else seconds / (60 * minutes)
    progress = max(by_step, by_clock)
    warmup = min(1.0, (step + 1) / (training.warmup_steps + 1))
    return progress, warmup * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


class Clock:
    """Wall-clock time of a run over all its sessions, and laps for throughput.

    Args:
        before: Seconds spent in earlier sessions.
    """

    def __init__(self, before: float) -> None:
        self.start = time.perf_counter() - before
        self.lap_start = time.perf_counter()

    def seconds(self) -> float:
        """Return the seconds spent on the run so far."""
        return time.perf_counter() - self.start

    def lap(self) -> float:
        """Return the seconds since the last lap, and start another."""
        now = time.perf_counter()
        duration, self.lap_start = now - self.lap_start, now
        return duration

    def skip(self) -> None:
        """Exclude the time since the last lap from the next one."""
        self.lap_start = time.perf_counter()
