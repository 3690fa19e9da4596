"""Image files of kinds that Pillow reads but does not write."""

import struct
import zlib

import numpy as np

GREY, TRUECOLOUR = 0, 2  # colour types of PNG
UNSIGNED, SIGNED, FLOAT = 1, 2, 3  # sample formats of TIFF
WHITE_IS_ZERO, BLACK_IS_ZERO = 0, 1


def png(rows, depth, colour_type=GREY, key=b""):
    """Return a PNG of rows of packed samples; ``key`` is the level that stands for transparent."""
    channels = 3 if colour_type == TRUECOLOUR else 1
    width = len(rows[0]) * 8 // (depth * channels)
    header = struct.pack(">IIBBBBB", width, len(rows), depth, colour_type, 0, 0, 0)
    parts = [(b"IHDR", header)]
    if key:
        parts.append((b"tRNS", key))
    pixels = b"".join(b"\0" + row for row in rows)
    parts += [(b"IDAT", zlib.compress(pixels)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(map(_png_chunk, *zip(*parts, strict=True)))


def _png_chunk(kind, content):
    checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def tiff(pixels, sample_format, photometric=BLACK_IS_ZERO, bits=None, width=None):
    """Return an uncompressed grey TIFF of one strip; samples may be packed in bytes."""
    pixels = np.asarray(pixels)
    height = len(pixels)
    content = pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()
    tags = {
        256: (4, width or pixels.shape[1]),
        257: (4, height),
        258: (3, bits or 8 * pixels.itemsize),
        259: (3, 1),
        262: (3, photometric),
        273: (4, 8),
        277: (3, 1),
        278: (4, height),
        279: (4, len(content)),
        339: (3, sample_format),
    }
    entries = [struct.pack("<HHII", tag, kind, 1, value) for tag, (kind, value) in tags.items()]
    directory = struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + len(content)) + content + directory
