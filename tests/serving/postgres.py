"""A PostgreSQL server of Debian's packages, for the time of a test, on a free port of loopback."""

import os
import secrets
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path


def programs():
    """Return the folder of PostgreSQL's programs, or None if it is not installed."""
    if found := shutil.which("initdb"):
        return Path(found).parent
    return max(Path("/usr/lib/postgresql").glob("*/bin"), default=None, key=str)


class Postgres:
    """A server with one database, and its URL."""

    def __init__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="bruno-postgres-"))
        self.bin = programs()
        # It refuses to run as root; Debian's package brings a user.
        self.prefix = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        if self.prefix:
            shutil.chown(self.folder, "postgres")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        password = secrets.token_hex(8)
        (self.folder / "password").write_text(password)
        self.run(
            "initdb", "-D", self.folder / "data", "-U", "bruno", "-A", "scram-sha-256",
            "--pwfile", self.folder / "password", "-E", "UTF8", "--no-sync",
        )  # fmt: skip
        self.url = f"postgresql://bruno:{password}@127.0.0.1:{self.port}/postgres"
        self.start()

    def run(self, program, *arguments):
        command = [*self.prefix, self.bin / program, *arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=self.folder)

    def start(self):
        options = f"-k {self.folder} -c listen_addresses=127.0.0.1 -p {self.port}"
        data = self.folder / "data"
        self.run("pg_ctl", "-D", data, "-o", options, "-w", "-l", self.folder / "log", "start")

    def stop(self, mode="immediate"):
        self.run("pg_ctl", "-D", self.folder / "data", "-w", "-m", mode, "stop")

    def remove(self):
        self.stop()
        shutil.rmtree(self.folder)
