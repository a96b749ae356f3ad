#!/usr/bin/env python3
"""Golden values of decoding and resizing photos by Pillow, in photos.json beside this file.

    pip install pillow==13.0.0
    tests/golden/make_photos.py

Pictures are drawn from fixed seeds: the same version gives the same file. Nothing here is needed to build or test.
"""

import io
import json
import os
import random

from PIL import Image, ImageDraw, ImageEnhance, ImageOps

EXIF = 0x0112  # orientation


def picture(width, height, seed, mode="RGB"):
    """Smooth colours with some edges, as a photo has."""
    draw = random.Random(seed)
    image = Image.new("RGB", (width, height))
    a, b, c = (draw.randrange(4, 9) for _ in range(3))
    for y in range(height):
        for x in range(width):
            image.putpixel((x, y), ((a * x + 3 * y + draw.randrange(24)) % 256, (b * y + x * x // 9) % 256, (c * (x + y) + 60) % 256))
    pen = ImageDraw.Draw(image)
    for _ in range(3):
        x, y, r = draw.randrange(width), draw.randrange(height), draw.randrange(2, 6)
        pen.ellipse([x - r, y - r, x + r, y + r], fill=tuple(draw.randrange(256) for _ in range(3)))
    return image.convert(mode)


def encoded(image, kind, orientation=None, **options):
    if orientation is not None:
        exif = Image.Exif()
        exif[EXIF] = orientation
        options["exif"] = exif
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def upright(data):
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return image.convert("RGB")


def files():
    photo = picture(45, 37, 1)
    for name, options in {"baseline": {}, "4:4:4": {"subsampling": 0}, "4:2:2": {"subsampling": 1}, "progressive": {"progressive": True},
                          "progressive 4:4:4": {"progressive": True, "subsampling": 0}, "restarts": {"restart_marker_blocks": 2}}.items():
        yield name, encoded(photo, "JPEG", quality=88, **options)
    yield "grey JPEG", encoded(photo.convert("L"), "JPEG", quality=88)
    yield "CMYK", encoded(photo.convert("CMYK"), "JPEG", quality=88)
    yield "WebP", encoded(photo, "WEBP", quality=80)
    small = picture(13, 9, 2)
    clear = small.copy()
    clear.putalpha(Image.linear_gradient("L").resize(small.size))
    yield "lossless WebP", encoded(small, "WEBP", lossless=True)
    yield "clear WebP", encoded(clear, "WEBP", lossless=True)
    yield "clear PNG", encoded(clear, "PNG")
    yield "palette PNG", encoded(small.quantize(8), "PNG")
    for orientation in range(1, 9):
        yield f"turned {orientation} JPEG", encoded(small, "JPEG", orientation, quality=90)
    yield "turned 6 WebP", encoded(small, "WEBP", 6, lossless=True)
    yield "turned 7 PNG", encoded(small, "PNG", 7)


def resized():
    photo = picture(41, 33, 3)
    for interpolation, by in (("bilinear", Image.BILINEAR), ("bicubic", Image.BICUBIC)):
        for crop in ([0, 0, 33, 41], [5, 7, 20, 11], [2, 3, 9, 30], [4, 1, 1, 1], [0, 8, 30, 2], [0, 0, 5, 7]):
            for size in ([16, 16], [7, 23], [40, 5]):
                top, left, height, width = crop
                part = photo.crop((left, top, left + width, top + height)).resize((size[1], size[0]), by)
                yield {"interpolation": interpolation, "crop": crop, "size": size, "pixels": part.tobytes().hex()}


def viewed():
    """Evaluation as torchvision and timm do it: the shorter side resized, the middle cut out."""
    for size, crop_pct in (8, 0.875), (16, 1.0), (20, 0.9), (50, 0.875):
        for seed, shape in enumerate([(41, 33), (20, 47), (23, 23), (9, 31)]):
            photo = picture(*shape, 10 + seed)
            side = int(size / crop_pct)
            shorter = min(shape)
            width, height = (side, int(side * shape[1] / shorter)) if shape[0] <= shape[1] else (int(side * shape[0] / shorter), side)
            top, left = round((height - size) / 2), round((width - size) / 2)
            seen = photo.resize((width, height), Image.BICUBIC).crop((left, top, left + size, top + size))
            yield {"bytes": encoded(photo, "PNG").hex(), "size": size, "crop_pct": crop_pct, "pixels": seen.tobytes().hex()}


def colored():
    photo = picture(19, 14, 4)
    for name, change in (("brightness", ImageEnhance.Brightness), ("saturation", ImageEnhance.Color), ("contrast", ImageEnhance.Contrast),
                         ("sharpness", ImageEnhance.Sharpness)):
        for factor in (0.0, 0.4, 1.0, 1.7):
            yield {"change": name, "by": factor, "pixels": change(photo).enhance(factor).tobytes().hex()}
    for bits in (4, 7):
        yield {"change": "posterize", "by": bits, "pixels": ImageOps.posterize(photo, bits).tobytes().hex()}
    yield {"change": "solarize", "by": 100, "pixels": ImageOps.solarize(photo, 100).tobytes().hex()}
    yield {"change": "autocontrast", "by": 0, "pixels": ImageOps.autocontrast(photo).tobytes().hex()}
    yield {"change": "equalize", "by": 0, "pixels": ImageOps.equalize(picture(41, 33, 3)).tobytes().hex()}  # a small one stays


def main():
    def of(image):
        return {"size": list(image.size[::-1]), "pixels": image.tobytes().hex()}

    parts = {"files": [{"name": name, "bytes": data.hex(), **of(upright(data))} for name, data in files()],
             "resized": list(resized()), "viewed": list(viewed()), "colored": list(colored())}
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "photos.json"), "w") as out:
        lines = [f'"{name}": [\n' + ",\n".join(map(json.dumps, cases)) + "\n]" for name, cases in parts.items()]
        lines += [f'"{name}": {json.dumps(of(image))}' for name, image in {"photo": picture(41, 33, 3), "small": picture(19, 14, 4)}.items()]
        out.write("{" + ",\n".join(lines) + "}\n")


if __name__ == "__main__":
    main()
