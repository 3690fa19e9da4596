"""How a long evaluation says how far it is."""

from collections.abc import Callable

ProgressCallback = Callable[[str, int, int], None]
"""Called with what is being done, how many of its steps are done, and how many there are."""
