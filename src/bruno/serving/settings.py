"""Settings of a server, as the command line and the processes of one server share them."""

from __future__ import annotations

import dataclasses
import ipaddress
import json
import os
from dataclasses import dataclass

from bruno.errors import UserError
from bruno.validation import check_whole

DEFAULT_MODEL = "omniglot"
"""The model that the service draws and classifies with unless another is named."""

VIEWS_MODEL = "turntable"
"""The conditional model of the second tab."""

TOKEN_VARIABLE = "BRUNO_TOKEN"  # noqa: S105 - the name of a variable
"""Environment variable with the token that requests must bring."""

_SHORTEST_TOKEN = 16


@dataclass(frozen=True)
class ServerSettings:
    """Settings of a server.

    Attributes:
        model: Name or directory of the model.
        classifier: Directory of a saved :class:`~bruno.BrunoClassifier`, whose model and classes
            are served instead.
        store: URL of the database.
        host: Address to listen at.
        allowed_hosts: Names that requests may address the server by, besides those of loopback.
        keep_examples: Whether new projects keep the examples themselves unless told otherwise.
        views: Whether the conditional model is served, too.
        device: ``auto``, ``cpu`` or ``cuda``.
        threads: Threads of one flow pass.
        window: Milliseconds in which requests are gathered into one flow pass, where several come
            at a time.
        max_body: Largest body of a request, in MiB.
        max_pixels: Largest picture, in megapixels.
        max_rate: Most requests per second of one client.
    """

    model: str = DEFAULT_MODEL
    classifier: str | None = None
    store: str = "sqlite:///bruno.db"
    host: str = "127.0.0.1"
    allowed_hosts: tuple[str, ...] = ()
    keep_examples: bool = True
    views: bool = True
    device: str = "auto"
    threads: int = 1
    window: int = 6
    max_body: int = 16
    max_pixels: int = 16
    max_rate: int = 500

    def __post_init__(self) -> None:
        for name in ("threads", "max_body", "max_pixels", "max_rate"):
            check_whole(name, getattr(self, name), 1)
        check_whole("window", self.window, 0)

    def to_json(self) -> str:
        """Return the settings as text, for other processes."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> ServerSettings:
        """Return the settings that :meth:`to_json` wrote."""
        values = json.loads(text)
        return cls(**values | {"allowed_hosts": tuple(values["allowed_hosts"])})


def token_for(host: str) -> str | None:
    """Return the token that requests must bring, or ``None`` if the server is reached locally only.

    Args:
        host: Address the server listens at.

    Raises:
        UserError: If it listens beyond this machine without a token, or the token is short.
    """
    token = os.environ.get(TOKEN_VARIABLE) or None
    if token is None and not is_loopback(host):
        raise UserError(
            f"host: expected an address of this machine alone, such as 127.0.0.1, got {host!r}; to "
            f"listen beyond it, put a token into the environment variable {TOKEN_VARIABLE}"
        )
    if token is not None and len(token) < _SHORTEST_TOKEN:
        raise UserError(
            f"{TOKEN_VARIABLE}: expected at least {_SHORTEST_TOKEN} characters, got {len(token)}"
        )
    return token


def is_loopback(host: str) -> bool:
    """Return whether an address is reached from this machine alone.

    Example:
        >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("0.0.0.0")
        (True, True, False)
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
