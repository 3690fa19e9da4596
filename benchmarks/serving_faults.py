"""Kill the service under load again and again: no acknowledged example is lost, none is twice.

    python benchmarks/serving_faults.py --kills 20
    python benchmarks/serving_faults.py --kills 20 --store postgresql://user:password@host/database

Clients learn examples, each with an idempotency key, and send it again until it is acknowledged; a
third of them is forgotten again. The process of the server gets SIGKILL at random times. A parent
that has the model loaded forks the next one. In the end every key must stand for exactly one
example that was not forgotten, and the evidence of every class must be, bit for bit, that of its
examples.
"""

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter

import httpx
import numpy as np
import torch
import uvicorn

from bruno.serving.app import create_app
from bruno.serving.model import load_model
from bruno.serving.settings import ServerSettings
from serving_load import images

PATH = "/api/v1/projects/faults"
CLIENTS, LABELS = 4, 5
TIMEOUT = 10


class Writers:
    """Threads that learn and forget, and know what must be there in the end."""

    def __init__(self, known):
        self.known, self.url = known, None
        self.acknowledged, self.forgotten = {}, set()
        self.repeated = self.replayed = 0
        self.stopping = threading.Event()
        self.lock = threading.Lock()
        self.threads = [
            threading.Thread(target=self.work, args=(number,)) for number in range(CLIENTS)
        ]

    def until_answered(self, method, path, **options):
        """Send a request until it is answered."""
        attempts = 0
        while True:
            try:
                answer = httpx.request(method, self.url + path, timeout=TIMEOUT, **options)
                if answer.status_code < 500:
                    return answer, attempts
            except httpx.HTTPError:
                pass
            attempts += 1
            time.sleep(0.1)

    def work(self, number):
        """Learn, and now and then forget, until told to stop."""
        rng = np.random.default_rng([3, number])
        while not self.stopping.is_set():
            key = uuid.uuid4().hex
            element = self.known[int(rng.integers(LABELS))][int(rng.integers(12))]
            body = {"examples": [{"class": f"w{number}", **element}]}
            answer, attempts = self.until_answered(
                "POST", f"{PATH}/examples", json=body, headers={"Idempotency-Key": key}
            )
            assert answer.status_code == 201, answer.text
            example = answer.json()["examples"][0]["id"]
            with self.lock:
                self.acknowledged[key] = example
                self.repeated += attempts > 0
                self.replayed += answer.json()["replayed"]
            if rng.random() < 0.3:
                answer, attempts = self.until_answered("DELETE", f"{PATH}/examples/{example}")
                # Repeated, it may have been done the first time.
                assert answer.status_code == 200 or attempts > 0, answer.text
                self.forgotten.add(example)


def supervise(store, port):
    """Serve in a child, and in another one whenever that dies; print the id of each."""
    settings = ServerSettings(store=store, views=False, max_rate=10**6)
    torch.set_num_threads(1)  # threads of a pool do not survive a fork
    model = load_model(settings)
    while True:
        child = os.fork()
        if child == 0:
            uvicorn.run(create_app(settings, model), port=port, log_level="error")
            os._exit(0)
        print(child, flush=True)
        os.waitpid(child, 0)


class Supervised:
    """A supervisor in a process of its own, and its current child."""

    def __init__(self, store):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        command = [sys.executable, __file__, "--supervise", str(self.port), "--store", store]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: S603
        self.child = int(self.process.stdout.readline())

    def kill(self):
        """Kill the child, and wait for the next."""
        os.kill(self.child, signal.SIGKILL)
        self.child = int(self.process.stdout.readline())

    def stop(self):
        """Stop both."""
        self.process.kill()
        self.process.wait()
        os.kill(self.child, signal.SIGKILL)


def wait_for(url):
    """Wait until a server is healthy."""
    while True:
        try:
            if httpx.get(f"{url}/health", timeout=TIMEOUT).status_code == 200:
                return
        except httpx.HTTPError:
            time.sleep(0.05)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--examples", type=int, default=10, help="learned before each kill")
    parser.add_argument("--store", default=None)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--supervise", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.supervise:
        supervise(arguments.store, arguments.supervise)
    rng = np.random.default_rng(arguments.seed)
    with tempfile.TemporaryDirectory() as folder:
        store = arguments.store or f"sqlite:///{folder}/faults.db"
        writers = Writers(images())
        server = Supervised(store)
        url = writers.url = f"http://127.0.0.1:{server.port}"
        wait_for(url)
        made = httpx.post(f"{url}/api/v1/projects", json={"name": "faults"}, timeout=TIMEOUT)
        made.raise_for_status()
        for thread in writers.threads:
            thread.start()
        for kill in range(arguments.kills):
            enough = len(writers.acknowledged) + arguments.examples
            while len(writers.acknowledged) < enough:
                time.sleep(0.01)
            time.sleep(0.2 * rng.random())
            server.kill()
            print(f"kill {kill + 1}: {len(writers.acknowledged)} acknowledged", flush=True)
        writers.stopping.set()
        for thread in writers.threads:
            thread.join()
        stored = httpx.get(f"{url}{PATH}/examples?limit=1000", timeout=60).json()
        offset = len(stored)
        while offset and offset % 1000 == 0:
            more = httpx.get(f"{url}{PATH}/examples?limit=1000&offset={offset}", timeout=60).json()
            stored += more
            offset += len(more) or 1
        verified = httpx.get(f"{url}{PATH}/verify", timeout=60).json()
        server.stop()
    there = Counter(one["id"] for one in stored)
    expected = set(writers.acknowledged.values()) - writers.forgotten
    result = {
        "kills": arguments.kills,
        "acknowledged": len(writers.acknowledged),
        "forgotten": len(writers.forgotten),
        "sent_again": writers.repeated,
        "answered_from_the_key": writers.replayed,
        "lost": len(expected - there.keys()),
        "too_many": len(there.keys() - expected),
        "twice": sum(n > 1 for n in there.values())
        + len(writers.acknowledged)
        - len(set(writers.acknowledged.values())),
        "evidence_is_that_of_examples": verified["is_equal"],
        "load_average": os.getloadavg()[0],
    }
    print(json.dumps(result, indent=2))
    failed = result["lost"] or result["too_many"] or result["twice"] or not verified["is_equal"]
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
