"""What tests of the page share: a server of its own process, a browser, and drawings."""

import math
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).parents[2]
CHROMIUM = os.environ.get("BRUNO_CHROMIUM", "/usr/bin/chromium")
AXE = ROOT / "node_modules/axe-core/axe.min.js"
START_SECONDS = 60

# Drawings in a unit square, as strokes of points.
LETTERS = {
    "loop": [[(0.5 + 0.35 * math.cos(a / 6), 0.5 + 0.3 * math.sin(a / 6)) for a in range(38)]],
    "cross": [[(0.2, 0.2), (0.8, 0.8)], [(0.8, 0.2), (0.2, 0.8)]],
    "hook": [[(0.3, 0.2), (0.7, 0.2), (0.7, 0.6), (0.55, 0.8), (0.35, 0.75)]],
    "fork": [[(0.2, 0.2), (0.5, 0.5), (0.8, 0.2)], [(0.5, 0.5), (0.5, 0.85)]],
}


class Server:
    """``bruno serve`` in a process of its own, on a free port of this machine.

    Args:
        store: URL of its database.
        options: Further options of the command.
        environment: Further variables.
    """

    def __init__(self, store, *options, **environment):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bruno.cli", "serve", "--port", "0", "--store", store, *options],
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONUNBUFFERED": "1"} | environment,
        )
        lines = []
        for line in self.process.stderr:
            lines.append(line)
            if found := re.search(r"http://\S+:(\d+)/", line):
                self.port = int(found[1])
                break
        else:
            raise RuntimeError("the server did not start: " + "".join(lines))
        # Nobody reads on, and a full pipe would stop the server.
        threading.Thread(target=self.process.stderr.read, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.port}"
        self.wait()

    def wait(self):
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                with urllib.request.urlopen(f"{self.url}/health", timeout=5) as answer:  # noqa: S310
                    if answer.status == 200:
                        return
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.kill()


def draw(page, strokes, shift=0.0, scale=1.0):
    """Draw strokes of the unit square on the sheet, with the mouse."""
    page.locator("#pad").scroll_into_view_if_needed()
    box = page.locator("#pad").bounding_box()

    def place(point):
        x, y = (0.5 + (value - 0.5) * scale + shift for value in point)
        return box["x"] + x * box["width"], box["y"] + y * box["height"]

    for stroke in strokes:
        page.mouse.move(*place(stroke[0]))
        page.mouse.down()
        for point in stroke[1:]:
            page.mouse.move(*place(point), steps=3)
        page.mouse.up()


def learn(page, name, strokes, **how):
    """Draw strokes and add them to a class."""
    thumbs = page.locator("#classes .thumb")
    before = thumbs.count()
    draw(page, strokes, **how)
    page.get_by_label("Class", exact=True).first.fill(name)
    page.get_by_role("button", name="Add example").click()
    thumbs.nth(before).wait_for()
