"""For tools/gpu/check: data to train on, made here, and comparisons of what was trained.

A comparison returns (passed, what was found), or raises what reading the files of a run may raise.
"""
import csv
import json
import random
import struct


def write(file, content):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content if isinstance(content, bytes) else content.encode())


def make_data(to, sizes):
    """Stripes, one slope for each class, as IDX files; words, to be translated into their syllables in reverse."""
    draw, side = random.Random(20), sizes["side"]
    for split, count in zip(("train", "t10k"), sizes["images"]):
        labels = bytes(i % 10 for i in range(count))
        pixels = bytes(min(255, max(0, int(draw.gauss(60 + 120 * ((x * label + y * (9 - label)) // side % 2), 40))))
                       for label in labels for y in range(side) for x in range(side))
        write(to / "vit" / f"{split}-images-idx3-ubyte", struct.pack(">IIII", 0x803, count, side, side) + pixels)
        write(to / "vit" / f"{split}-labels-idx1-ubyte", struct.pack(">II", 0x801, count) + labels)
    syllables = [a + b for a in "bdklmt" for b in "aio"]
    words = [draw.sample(syllables, draw.randint(1, 3)) for _ in range(120)]
    train, other = sizes["lines"]
    for split, count in ("train", train), ("valid", other), ("test", other):
        texts = [[draw.choice(words[:draw.choice((12, 120))]) for _ in range(draw.randint(3, 14))]
                 for _ in range(count)]
        source = [" ".join("".join(word) for word in text) for text in texts]
        target = [" ".join("".join(reversed(word)) for word in text) for text in texts]
        write(to / "translate" / f"{split}.tsv", "".join(f"{s}\t{t}\n" for s, t in zip(source, target)))
        write(to / "lm" / f"{split}.txt", "".join(s + "\n" for s in source))


def metrics(run):
    with open(run / "metrics.csv") as file:
        rows = [{k: v for k, v in row.items() if k not in ("samples_per_s", "seconds")} for row in csv.DictReader(file)]
    if not rows:
        raise ValueError(f"{run}/metrics.csv has no rows")
    return rows


def pairs(run, other, columns):
    """(where, one value, the other) of all rows."""
    mine, theirs = metrics(run), metrics(other)
    if len(mine) != len(theirs):
        raise ValueError(f"{len(mine)} rows of metrics, {len(theirs)} in the other run")
    return [(f"{column} of {a['split']}, epoch {a['epoch']}", a[column], b[column])
            for a, b in zip(mine, theirs) for column in columns or a]


def close(run, other, tolerance):
    found = [(abs(float(a) - float(b)) / abs(float(b)), f"{where}: {a}, on the cpu {b}")
             for where, a, b in pairs(run, other, ("loss", "ce"))]
    wrong = [one for one in found if not one[0] <= tolerance]  # NaN is wrong
    error, where = wrong[0] if wrong else max(found)
    return not wrong, f"{'first' if wrong else 'largest'} difference {error:.1e}, allowed {tolerance:.0e}: {where}"


def weights(file):
    content = file.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    return {name: content[start + tensor["data_offsets"][0]:start + tensor["data_offsets"][1]]
            for name, tensor in json.loads(content[8:start]).items() if name != "__metadata__"}


def identical(run, other):
    for where, a, b in pairs(run, other, None):
        if a != b:
            return False, f"{where}: {a} and {b}"
    for file in "best.safetensors", "last.safetensors":
        mine, theirs = weights(run / file), weights(other / file)
        differ = sorted(name for name in mine.keys() | theirs.keys() if mine.get(name) != theirs.get(name))
        if differ or not mine:
            return False, f"{file}: {len(differ)} of {len(mine)} tensors differ, the first is {(differ or ['-'])[0]}"
    return True, f"{len(metrics(run))} rows and {len(mine)} tensors"
