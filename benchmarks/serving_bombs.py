"""Send ``bruno serve`` pictures that are meant to harm it, and watch its memory.

    python benchmarks/serving_bombs.py

Each must be answered with 4xx (or, where it is a harmless picture of the largest size allowed, with
200), and the memory of the server must stay within bounds.
"""

import base64
import io
import json
import struct
import sys
import tempfile
import threading
import time
import zlib
from pathlib import Path

import httpx
import psutil
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.serving.page import Server

TIMEOUT = 300


def png(width, height, data, colour=0, depth=8):
    def chunk(kind, content):
        crc = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + crc

    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    signature = b"\x89PNG\r\n\x1a\n"
    return signature + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def zeros(rows, length):
    """Return rows of zeros, deflated piece by piece."""
    packer = zlib.compressobj(9)
    parts = [packer.compress(bytes(length)) for _ in range(rows)]
    return b"".join(parts) + packer.flush()


def saved(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def bombs():
    """Return pictures, and the statuses that may answer each."""
    small = saved(Image.new("L", (200, 200), 255), "PNG")
    text = zlib.compress(bytes(50 * 2**20), 9)
    long_text = small[:33] + struct.pack(">I", len(text) + 6) + b"zTXtbomb\0\0" + text + b"crc!"
    frames = [Image.new("L", (1000, 1000), value) for value in range(60)]
    return {
        "PNG of 30,000 x 30,000": (png(30_000, 30_000, zeros(30_000, 30_001)), {422}),
        "PNG that claims 2^31 x 2^31": (png(2**31 - 1, 2**31 - 1, zeros(1, 10)), {422}),
        # Pillow leaves the rows that are missing black.
        "PNG that claims 4000 x 4000 and has one row": (
            png(4000, 4000, zeros(1, 4001)),
            {200, 422},
        ),
        "PNG with 50 MiB of text": (long_text + small[33:], {422}),
        "PNG cut short": (small[: len(small) // 2], {422}),
        "largest PNG allowed, all paper": (png(4000, 4000, zeros(4000, 4001)), {200, 422}),
        "largest RGBA PNG of 16 bits": (png(4000, 4000, zeros(4000, 32_001), 6, 16), {200, 422}),
        "GIF of 60 frames": (
            saved(frames[0], "GIF", save_all=True, append_images=frames[1:]),
            {200, 422},
        ),
        "TIFF of 20,000 x 20,000": (
            saved(Image.new("1", (20_000, 20_000)), "TIFF", compression="group4"),
            {422},
        ),
        "JPEG header only": (saved(Image.new("L", (64, 64)), "JPEG")[:200], {422}),
        "text named PNG": (b"\x89PNG\r\n\x1a\n" + b"text" * 100, {422}),
        "EPS": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9999 9999\n", {422}),
        "SVG": (b"<svg xmlns='http://www.w3.org/2000/svg' width='99999' height='99999'/>", {422}),
        "body of 40 MiB": (bytes(30 * 2**20), {413}),
    }


def main():
    with tempfile.TemporaryDirectory() as folder:
        server = Server(f"sqlite:///{folder}/bombs.db", "--views", "false")
        process = psutil.Process(server.process.pid)
        peak, done = [0], threading.Event()

        def watch():
            while not done.is_set():
                peak[0] = max(peak[0], process.memory_info().rss)
                time.sleep(0.01)

        watcher = threading.Thread(target=watch)
        rows = []
        try:
            path = f"{server.url}/api/v1/projects"
            httpx.post(path, json={"name": "bombs"}, timeout=TIMEOUT).raise_for_status()
            body = {"elements": [{"strokes": [[[0, 0], [1, 1]]]}]}
            httpx.post(f"{path}/bombs/classify", json=body, timeout=TIMEOUT).raise_for_status()
            before = process.memory_info().rss
            watcher.start()
            for name, (data, expected) in bombs().items():
                content = json.dumps(
                    {"elements": [{"image": base64.b64encode(data).decode(), "invert": True}]}
                )
                start = time.perf_counter()
                try:
                    answer = httpx.post(
                        f"{path}/bombs/classify",
                        content=content,
                        headers={"content-type": "application/json"},
                        timeout=TIMEOUT,
                    )
                    status = answer.status_code
                except httpx.WriteError:  # refused by its length, and closed
                    status = 413
                seconds = round(time.perf_counter() - start, 2)
                rows.append((name, len(content), status, status in expected, seconds))
                print(*rows[-1], peak[0] // 2**20, "MiB", flush=True)
            httpx.post(f"{path}/bombs/classify", json=body, timeout=TIMEOUT).raise_for_status()
        finally:
            done.set()
            server.stop()
    growth = (peak[0] - before) // 2**20
    print(f"memory before {before // 2**20} MiB, peak {peak[0] // 2**20} MiB, growth {growth} MiB")
    return 0 if all(row[3] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
