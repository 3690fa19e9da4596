"""``bruno serve``: a page to draw on, and a service that learns and forgets."""

from __future__ import annotations

import os
import sys
from asyncio.trsock import TransportSocket
from socket import socket
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from bruno.cli.console import error_console, progress_console
from bruno.errors import UserError
from bruno.paths import user_path
from bruno.serving.app import create_app
from bruno.serving.settings import DEFAULT_MODEL, ServerSettings, is_loopback, token_for
from bruno.validation import check_whole

_SHUTDOWN_SECONDS = 10
_PATIENCE = 0.5  # seconds for an answer of a process that starts
_ANSWER_SECONDS = 60  # in which a process must answer its parent, on a machine that many share
_SETTINGS = "BRUNO_SERVE_SETTINGS"  # environment variable that carries them to the processes


def serve(
    model: str = DEFAULT_MODEL,
    classifier: str | None = None,
    store: str = "sqlite:///bruno.db",
    host: str = "127.0.0.1",
    port: int = 8000,
    workers: int = 1,
    allowed_hosts: list[str] | None = None,
    keep_examples: bool = True,
    views: bool = True,
    threads: int = 1,
    window: int = 6,
    max_body: int = 16,
    max_pixels: int = 16,
    max_rate: int = 500,
    device: str = "auto",
) -> None:
    """Serve a model: a page to draw on at http://HOST:PORT/, and an API under /api/v1.

    Beyond this machine it listens only if the environment variable BRUNO_TOKEN holds a token, which
    requests then must bring.

    Args:
        model: Name of a model that comes with the package, or directory of one.
        classifier: Directory of a saved BrunoClassifier to serve instead, with its classes.
        store: Where classes and examples are kept: sqlite:///file.db, or
            postgresql://user:password@host/database.
        host: Address to listen at.
        port: Port to listen at; 0 for any that is free.
        workers: Number of processes, which share the store.
        allowed_hosts: Names by which the server may be addressed, besides those of this machine.
        keep_examples: Whether new projects keep the examples themselves; without them, forgetting
            one needs it again.
        views: Whether to serve the conditional model, too.
        threads: Threads of one flow pass. More than one only help models much larger than those
            that come with the package.
        window: Milliseconds in which requests are gathered into one flow pass, where several come
            at a time.
        max_body: Largest body of a request, in MiB.
        max_pixels: Largest picture, in megapixels.
        max_rate: Most requests per second of one client.
        device: auto, cpu or cuda.
    """
    check_whole("workers", workers, 1)
    if not 0 <= port < 2**16:
        raise UserError(f"port: expected a number from 0 to {2**16 - 1}, got {port}")
    settings = ServerSettings(
        model=model,
        classifier=None if classifier is None else str(user_path(classifier, "classifier")),
        store=store,
        host=host,
        allowed_hosts=(*(allowed_hosts or ()), *(() if is_loopback(host) else (host,))),
        keep_examples=keep_examples,
        views=views,
        device=device,
        threads=threads,
        window=window,
        max_body=max_body,
        max_pixels=max_pixels,
        max_rate=max_rate,
    )
    token_for(host)
    console = progress_console()
    console.print(f"loading {classifier or model} …")
    options: dict[str, Any] = {
        "host": host,
        "port": port,
        "log_level": "warning",
        "timeout_graceful_shutdown": _SHUTDOWN_SECONDS,
        "server_header": False,
    }
    if workers > 1:
        os.environ[_SETTINGS] = settings.to_json()
        _serve_processes(
            uvicorn.Config(
                "bruno.cli.serve:app_of_process",
                factory=True,
                workers=workers,
                timeout_worker_healthcheck=_ANSWER_SECONDS,
                **options,
            )
        )
        return
    server = _AnnouncedServer(uvicorn.Config(create_app(settings), **options))
    server.run()
    if not server.started:
        sys.exit(2)


def app_of_process() -> FastAPI:
    """Return the application of one of several processes, as the command described it."""
    try:
        return create_app(ServerSettings.from_json(os.environ[_SETTINGS]))
    except UserError as error:
        error_console().print(f"bruno: error: {error}")
        sys.exit(STARTUP_FAILURE)  # another process would fail alike: none is started


def _serve_processes(config: uvicorn.Config) -> None:
    processes = _AnnouncedProcesses(config, sockets=[config.bind_socket()])
    processes.run()
    if any(one.exitcode == STARTUP_FAILURE for one in processes.processes):
        sys.exit(2)


class _AnnouncedProcesses(Multiprocess):
    """Processes that share a socket, whose address is printed once all of them listen."""

    is_announced = False

    def keep_subprocess_alive(self) -> None:
        """Start processes again that ended; print where all listen when they first do."""
        codes = [one.exitcode for one in self.processes]
        if STARTUP_FAILURE in codes:
            self.should_exit.set()
        elif self.is_announced or codes != [None] * len(codes):
            super().keep_subprocess_alive()
        # Not the check above, which would wait a minute for an answer of one that ends meanwhile.
        elif all(one.is_ready(_PATIENCE) for one in self.processes):
            self.is_announced = True
            _announce(self.sockets[0], f" with {len(self.processes)} processes")


class _AnnouncedServer(uvicorn.Server):
    """A server that prints its address once it listens."""

    async def startup(self, sockets: list[socket] | None = None) -> None:
        """Listen, and print where."""
        await super().startup(sockets)
        for server in self.servers if self.started else ():
            for one in server.sockets[:1]:
                _announce(one)


def _announce(listening: socket | TransportSocket, how: str = "") -> None:
    host, port = listening.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    progress_console().print(f"serving at http://{shown}:{port}/{how}; Ctrl-C stops")
