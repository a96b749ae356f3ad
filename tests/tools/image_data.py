"""Images to train on: PNG files of 8x8 pixels, in train/ and test/, whose stripes tell their class."""

import os
import random
import struct
import zlib


def write_png(path, width, height, pixels):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + bytes(pixels[y * width:(y + 1) * width]) for y in range(height))
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    with open(path, "wb") as f:
        f.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def make_data(root, classes=("bar", "dot", "ring"), train=20, test=6, width=8, height=8):
    draw = random.Random(1)
    for split, count in (("train", train), ("test", test)):
        for label, name in enumerate(classes):
            os.makedirs(f"{root}/{split}/{name}", exist_ok=True)
            for i in range(count):
                pixels = [min(255, max(0, int(draw.gauss(60 + 130 * ((x // 2 + label) % 3 == y // 2 % 3), 40))))
                          for y in range(height) for x in range(width)]
                write_png(f"{root}/{split}/{name}/{i:03}.png", width, height, pixels)
