"""How many inputs a fuzz test tries: seconds' worth, or as many as ``--fuzz-examples`` asks for."""

import os

from hypothesis import HealthCheck, settings

VARIABLE = "BRUNO_FUZZ_EXAMPLES"


def fuzz_settings(default: int) -> settings:
    """Return the settings of a fuzz test that tries ``default`` inputs in a normal run."""
    return settings(
        max_examples=int(os.environ.get(VARIABLE, default)),
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
