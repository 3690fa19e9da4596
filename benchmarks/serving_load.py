"""Measure ``bruno serve`` under load, beside the bare model: bounded, on this machine alone.

    python benchmarks/serving_load.py --seconds 10 --json docs/results/serving-load.json
    python benchmarks/serving_load.py --mixed 24000

Clients are tasks of one process that each send the next request when the last was answered (a
closed loop), over a connection of its own. They write HTTP themselves, which takes less of the
processors that they share with the server than a library does.
Elements are images of 28 x 28 pixels of the built-in characters, with ``prepare: none``. The server
runs in a process of its own, with SQLite on this disk.
"""

import argparse
import asyncio
import json
import os
import platform
import sys
import tempfile
import time
import uuid
from collections import Counter
from pathlib import Path

import httpx
import numpy as np
import psutil
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.serving.conftest import in_base64
from tests.serving.page import Server

from bruno.data import load_dataset
from bruno.serving.model import load_model
from bruno.serving.settings import ServerSettings

PROJECT, CLASSES, SHOTS = "load", 20, 2
CLIENTS = (1, 8, 64)
PATH = f"/api/v1/projects/{PROJECT}"


def images():
    data = load_dataset("glyphs", "test")
    return [
        [in_base64(image) for image in data.images[data.indices_of(label)[:12]].numpy()]
        for label in range(CLASSES)
    ]


def classify(rng, known):
    label, index = rng.integers(CLASSES), rng.integers(SHOTS, len(known[0]))
    return "classify", f"{PATH}/classify", {"elements": [known[label][index]]}


def densities(rng, known):
    _, path, body = classify(rng, known)
    return "densities", path, body | {"with_densities": True}


def add(rng, known):
    element = known[rng.integers(CLASSES)][rng.integers(len(known[0]))]
    return "add", f"{PATH}/examples", {"examples": [{"class": f"n{rng.integers(50)}", **element}]}


def mixed(rng, known):
    """Return one request of many kinds, as a page and its users send them."""
    label = int(rng.integers(CLASSES))
    element = known[label][rng.integers(len(known[0]))]
    kind = rng.choice(
        ["classify", "densities", "add", "forget", "score", "list", "verify", "sample", "refused"],
        p=[0.55, 0.05, 0.12, 0.12, 0.05, 0.06, 0.002, 0.008, 0.04],
    )
    return {
        "classify": lambda: classify(rng, known),
        "densities": lambda: densities(rng, known),
        "add": lambda: add(rng, known),
        "forget": lambda: ("forget", f"{PATH}/forget", {"examples": [element]}),
        "score": lambda: (
            "score",
            f"{PATH}/score",
            {"class": f"c{label}", "elements": [element]},
        ),
        "list": lambda: ("list", f"{PATH}/examples?limit=20", None),
        "verify": lambda: ("verify", f"{PATH}/verify", None),
        "sample": lambda: (
            "sample",
            f"{PATH}/sample",
            {"class": f"c{label}", "count": 1, "latent_scale": 0.5},
        ),
        "refused": lambda: ("refused", f"{PATH}/classify", {"elements": [{"image": "bm8="}]}),
    }[kind]()


EXPECTED = {"refused": {422}, "forget": {200, 404}, "score": {200, 404}, "sample": {200, 404}}


class Connection:
    """A connection to the server that is kept open, for JSON and one request at a time."""

    def __init__(self, reader, writer, host):
        self.reader, self.writer, self.host = reader, writer, host

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        self.writer.close()

    async def status(self, path, body, headers):
        """Return the status of the answer to a request, after reading all of it."""
        method, content = ("GET", b"") if body is None else ("POST", json.dumps(body).encode())
        headers = {
            "Host": self.host,
            "Content-Type": "application/json",
            "Content-Length": len(content),
            **headers,
        }
        lines = [f"{method} {path} HTTP/1.1", *(f"{k}: {v}" for k, v in headers.items()), "", ""]
        self.writer.write("\r\n".join(lines).encode() + content)
        first, *answered = (await self.reader.readuntil(b"\r\n\r\n")).lower().split(b"\r\n")
        length = next(
            int(line.partition(b":")[2]) for line in answered if line.startswith(b"content-length:")
        )
        await self.reader.readexactly(length)
        return int(first.split()[1])


async def client_loop(make, rng, known, stop, found, base):
    host = base.removeprefix("http://")
    name, _, port = host.partition(":")
    async with Connection(*await asyncio.open_connection(name, int(port)), host) as connection:
        while not stop(found):
            kind, path, body = make(rng, known)
            headers = {"Idempotency-Key": uuid.uuid4().hex} if kind == "add" else {}
            start = time.perf_counter()
            status = await asyncio.wait_for(connection.status(path, body, headers), 120)
            found.append((kind, time.perf_counter() - start, status))


async def load(base, clients, make, known, stop):
    found = []
    start = time.perf_counter()
    await asyncio.gather(
        *(
            client_loop(make, np.random.default_rng([7, n]), known, stop, found, base)
            for n in range(clients)
        )
    )
    return found, time.perf_counter() - start


def summary(found, seconds):
    times = np.array([duration for _, duration, _ in found]) * 1000
    wrong = Counter(
        (kind, status) for kind, _, status in found if status not in EXPECTED.get(kind, {200, 201})
    )
    p50, p95, p99 = np.percentile(times, [50, 95, 99])
    return {
        "requests": len(found),
        "per_second": round(len(found) / seconds, 1),
        "p50_ms": round(float(p50), 1),
        "p95_ms": round(float(p95), 1),
        "p99_ms": round(float(p99), 1),
        "errors": {f"{kind} {status}": n for (kind, status), n in wrong.items()},
    }


def bare_model(known, seconds, threads):
    """Return images per second of the model alone, by batch size, without and with densities."""
    model = load_model(ServerSettings())
    torch.set_num_threads(threads)
    elements = torch.stack(
        [model.format.from_image(one["image"], "none", invert=False, name="x") for one in known[0]]
    )
    rates = {}
    for size in (1, 8, 32):
        batch = elements.repeat(3, 1, 1, 1)[:size]
        for name, with_densities in (("codes", False), ("densities", True)):
            model.encode(batch, with_densities=with_densities)
            passes, start, cpu = 0, time.perf_counter(), time.process_time()
            while time.perf_counter() - start < seconds / 6:
                model.encode(batch, with_densities=with_densities)
                passes += 1
            taken = time.perf_counter() - start
            rates[f"{name}_{size}"] = {
                "images_per_second": round(passes * size / taken, 1),
                "pass_ms": round(1000 * taken / passes, 1),
                "pass_cpu_ms": round(1000 * (time.process_time() - cpu) / passes, 1),
            }
    return rates


def set_up(base, known):
    with httpx.Client(timeout=120) as http:
        http.post(f"{base}/api/v1/projects", json={"name": PROJECT}).raise_for_status()
        for label in range(CLASSES):
            body = {"examples": [{"class": f"c{label}", **one} for one in known[label][:SHOTS]]}
            http.post(f"{base}{PATH}/examples", json=body).raise_for_status()


def measure(arguments, store):
    known = images()
    started = time.perf_counter()
    options = ("--max_rate", "100000", "--threads", str(arguments.threads), "--views", "false")
    server = Server(store, *options)
    process = psutil.Process(server.process.pid)
    result = {
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs",
        "threads": arguments.threads,
        "load_average_before": os.getloadavg()[0],
        "start_to_health_s": round(time.perf_counter() - started, 2),
    }
    try:
        first = time.perf_counter()
        httpx.get(f"{server.url}/", timeout=60).raise_for_status()
        result["page_s"] = round(time.perf_counter() - first, 3)
        set_up(server.url, known)
        result["start_to_first_answer_s"] = round(time.perf_counter() - started, 2)
        if arguments.mixed:
            result["mixed"] = measure_mixed(arguments.mixed, server, process, known)
            return result
        result["bare_model"] = bare_model(known, arguments.seconds, arguments.threads)
        print(result["bare_model"], flush=True)
        for name, make in (("classify", classify), ("add", add), ("densities", densities)):
            for clients in CLIENTS:
                until = time.monotonic() + arguments.seconds
                cpu = process.cpu_times()
                found, seconds = asyncio.run(
                    load(
                        server.url,
                        clients,
                        make,
                        known,
                        lambda _, until=until: time.monotonic() > until,
                    )
                )
                row = summary(found, seconds)
                used = process.cpu_times()
                row["server_cpu_ms_per_request"] = round(
                    1000 * (used.user + used.system - cpu.user - cpu.system) / len(found), 2
                )
                result[f"{name}_{clients}"] = row
                print(name, clients, row, flush=True)
        return result
    finally:
        result["load_average_after"] = os.getloadavg()[0]
        server.stop()


def measure_mixed(number, server, process, known):
    """Return what a run of mixed requests left: errors, and the growth of memory."""
    parts, memory = [], []
    share = number // 8
    for _ in range(8):
        found, seconds = asyncio.run(
            load(server.url, 8, mixed, known, lambda done: len(done) >= share - 7)
        )
        parts.append((found, seconds))
        memory.append(process.memory_info().rss)
        print(
            len(found), "requests", summary(found, seconds), memory[-1] // 2**20, "MiB", flush=True
        )
    every = [one for found, _ in parts for one in found]
    row = summary(every, sum(seconds for _, seconds in parts))
    row["kinds"] = dict(Counter(kind for kind, _, _ in every))
    row["memory_MiB"] = [rss // 2**20 for rss in memory]
    row["memory_growth_after_first_eighth"] = round(memory[-1] / memory[0] - 1, 4)
    verified = httpx.get(f"{server.url}{PATH}/verify", timeout=120).json()
    row["evidence_is_that_of_examples"] = verified["is_equal"]
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10, help="for each number of clients")
    parser.add_argument("--mixed", type=int, default=0, help="number of requests of mixed kinds")
    parser.add_argument("--threads", type=int, default=1, help="of one flow pass")
    parser.add_argument("--store", default=None, help="URL; a new SQLite file by default")
    parser.add_argument("--json", type=Path, default=None)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = measure(arguments, arguments.store or f"sqlite:///{folder}/load.db")
    print(json.dumps(result, indent=2))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
