"""Writes DIR/CLASS/NUMBER.jpg: pictures with the spectrum of photos, 500 x 375.   make_photos.py DIR (PyTorch's venv)"""
import pathlib
import sys

import numpy
from PIL import Image

CLASSES, EACH, WIDTH, HEIGHT, QUALITY = 4, 150, 500, 375, 92


def photo(draw, spectrum):
    shared, channels = draw.standard_normal((HEIGHT, WIDTH)), []
    for _ in range(3):
        noise = 0.7 * shared + 0.3 * draw.standard_normal((HEIGHT, WIDTH))
        x = numpy.fft.ifft2(numpy.fft.fft2(noise) / spectrum).real
        channels.append((x - x.mean()) / x.std() * 50 + 118)
    return Image.fromarray(numpy.clip(numpy.stack(channels, -1), 0, 255).astype(numpy.uint8))


def main(root):
    draw = numpy.random.default_rng(0)
    squares = numpy.fft.fftfreq(HEIGHT)[:, None] ** 2 + numpy.fft.fftfreq(WIDTH)[None] ** 2
    squares[0, 0] = 1
    for label in range(CLASSES):
        folder = pathlib.Path(root, f"class{label}")
        folder.mkdir(parents=True, exist_ok=True)
        for i in range(EACH):
            photo(draw, squares ** (0.5 + 0.05 * label)).save(folder / f"{i:04}.jpg", quality=QUALITY)


if __name__ == "__main__":
    main(sys.argv[1])
