"""Trainings that are killed at any moment, or whose disk fails: what is resumed ends as if nothing had been.

  test_kill.py PATH_TO_TANDEM PATH_TO_BREAK_AT MPIRUN [KILLS [RANDOM_SEED]]

break_at (break_at.cpp) is preloaded, and kills the process in place of one of the calls that change files, or fails
that call. So every step of writing a checkpoint can be the last one. Other kills come after a random time.
"""

import csv
import errno
import json
import os
import random
import re
import resource
import shutil
import signal
import struct
import subprocess
import sys
import time
import zlib

import mpi
from cases import Skip, expect, run_cases

TANDEM, BREAK_AT = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
MPIRUN = sys.argv[3] if sys.argv[3] != "none" else None  # none: there is no MPI
KILLS = int(sys.argv[4]) if len(sys.argv) > 4 else 18
DRAW = random.Random(int(sys.argv[5]) if len(sys.argv) > 5 else 1)
EPOCHS = 4


def write_png(path, side, pixels):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + bytes(pixels[y * side:(y + 1) * side]) for y in range(side))
    with open(path, "wb") as f:
        f.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
                + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def make_data():
    for split, count in (("train", 12), ("test", 4)):
        for level, name in zip((20, 128, 235), ("ant", "bee", "cat")):
            os.makedirs(f"images/{split}/{name}")
            for i in range(count):
                write_png(f"images/{split}/{name}/{i:02}.png", 8, [level + DRAW.randrange(-15, 16) for _ in range(64)])
    os.mkdir("texts")
    for split, count in (("train", 40), ("valid", 10), ("test", 10)):
        with open(f"texts/{split}.tsv", "w") as f:
            for i in range(count):
                f.write(f"{('a', 'b')[i % 2]}\t{'sun' if i % 2 else 'moon'} {' '.join(DRAW.choices('abcdefgh', k=4))}\n")


IMAGES = ["vit", "--data", "images", "--patch-size", "4", "--dim", "16", "--depth", "1", "--heads", "2", "--mlp-dim", "16",
          "--batch-size", "16", "--valid", "6", "--lr", "0.01"]
STEPS = ["4" if word == "16" and before == "--batch-size" else word for before, word in zip(["", *IMAGES], IMAGES)]
TEXTS = ["classify", "--data", "texts", "--preset", "tiny", "--dim", "16", "--heads", "2", "--mlp-dim", "32",
         "--vocab-size", "20", "--batch-size", "16", "--average", "2"]
# What is trained, and the folders that have weights then.
SAVING = ["--save-every", "1", "--keep", "3", "--eval-every", "2"]
TASKS = {"images": (IMAGES, [""]), "steps": ([*STEPS, *SAVING], [""]), "halves": ([*IMAGES, "--compare"], ["/plain", "/rdrop"]), "texts": (TEXTS, [""]),
         "ranks": ([*STEPS, *SAVING], [""])}


def ranks_of(task):
    return 2 if task == "ranks" else 1


def start(args, ranks=1, **environment):
    launch = [MPIRUN, "-n", str(ranks)] if ranks > 1 else []
    # Without gnuplot, whose picture takes longer than the training; in a session of its own, which can be killed.
    return subprocess.Popen([*launch, TANDEM, "train", *args, "--threads", "1"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                            text=True, env={**os.environ, "PATH": "/nowhere", **mpi.environment(), **environment}, start_new_session=True)


def kill_all(process):
    """In any order; what is started meanwhile, too."""
    while pids := mpi.of_session(process):
        for pid in DRAW.sample(pids, len(pids)):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass


def broken(at, by):
    return {"LD_PRELOAD": BREAK_AT, "BREAK_AT": str(at), "BREAK_BY": str(by)}


def finish(process):
    message = process.communicate(timeout=100)[1]
    return process.returncode, message


def command(task, run):
    """Begins the run or goes on with it, as far as it has come."""
    begun = os.path.exists(f"{run}/manifest.sha256")
    first = [*TASKS[task][0], "--epochs", str(EPOCHS), "--quiet", "--run", run]
    return [TASKS[task][0][0], "--resume", "--quiet", "--run", run] if begun else first


def checkpoint(file):
    """Tensors and metadata of a safetensors file, without the times in the record."""
    with open(file, "rb") as f:
        content = f.read()
    size = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8:8 + size])
    metadata = header.pop("__metadata__")
    if "record" in metadata:
        record = json.loads(metadata.pop("record"))
        for split in "train", "valid":
            record[split] = [row[:8] + row[10:] for row in record[split]]
        metadata["record"] = record
    if "epoch_part" in metadata:
        part = json.loads(metadata.pop("epoch_part"))
        part["means"] = part["means"][:8] + part["means"][10:]
        metadata["epoch_part"] = part
    return header, metadata, content[8 + size:]


def outcome(task, run):
    result = {}
    for part in TASKS[task][1]:
        folder = run + part
        names = sorted(os.listdir(folder))
        left = [n for n in names if n == "lock" or "tmp-" in n or n.endswith(".next")]
        expect(not left, f"{folder}: {left} are left")
        listed = subprocess.run(["sha256sum", "--quiet", "--strict", "-c", "manifest.sha256"], cwd=folder, capture_output=True, text=True)
        expect(listed.returncode == 0, f"{folder}: {listed.stdout}{listed.stderr}")
        with open(f"{folder}/metrics.csv") as f:
            rows = [{k: v for k, v in row.items() if k not in ("samples_per_s", "seconds")} for row in csv.DictReader(f)]
        with open(f"{folder}/steps.jsonl") as f:
            rows += [{k: v for k, v in json.loads(line).items() if k in ("step", "split", "loss", "ce")} for line in f]
        names = [n for n in names if n != "curves.gp" and not n.startswith("events.")]
        result[part] = names, rows, *(checkpoint(f"{folder}/{name}") for name in names if name.endswith(".safetensors"))
    return result


def whole(task):
    status, message = finish(start(command(task, f"{task}-whole"), ranks_of(task)))
    expect(status == 0, message)
    return outcome(task, f"{task}-whole")


def calls_of(task):
    """The calls that change files of a whole run, in order."""
    log = f"{task}.log"
    status, message = finish(start(command(task, f"{task}-log"), LD_PRELOAD=BREAK_AT, BREAK_LOG=os.path.abspath(log)))
    expect(status == 0, message)
    with open(log) as f:
        return f.read().split()


def check_state(run):
    """What is there opens, or is not there."""
    done = subprocess.run([TANDEM, "eval", run], capture_output=True, text=True)
    missing = "has no best.safetensors" in done.stderr or "no such run folder" in done.stderr
    expect(done.returncode == 0 or missing, f"eval of what is left: {done.stderr}")


def goes_on(task, run, expected, what):
    for part in TASKS[task][1]:
        check_state(run + part)
    status, message = finish(start(command(task, run), ranks_of(task)))
    expect(status == 0, f"{what}: it does not go on: {message}")
    expect(outcome(task, run) == expected, f"{what}: resumed, it differs from the uninterrupted run")
    shutil.rmtree(run)


def killed_at_calls(task, expected, count):
    calls = calls_of(task)
    # Most calls write; two places of three are those between files.
    writes = [n for n, name in enumerate(calls, 1) if name == "write"]
    others = [n for n, name in enumerate(calls, 1) if name != "write"]
    places = sorted(DRAW.sample(writes, count // 3) + DRAW.sample(others, count - count // 3))
    for n in places:
        what = f"{task}: killed at call {n} of {len(calls)}, {calls[n - 1]}"
        status, message = finish(start(command(task, "run"), **broken(n, "kill")))
        expect(status == -signal.SIGKILL, f"{what}: status {status} {message}")
        if DRAW.random() < 0.3:  # what it left is met by one that is killed, too
            finish(start(command(task, "run"), **broken(DRAW.randrange(1, 30), "kill")))
        goes_on(task, "run", expected, what)
    print(f"  {len(places)} of {len(calls)} places", flush=True)


def killed_at_times(task, expected, count):
    begin = time.time()
    finish(start(command(task, "run"), ranks_of(task)))
    seconds = time.time() - begin
    shutil.rmtree("run")
    interrupted = 0
    for _ in range(count):
        process = start(command(task, "run"), ranks_of(task))
        time.sleep(DRAW.uniform(0, seconds))
        kill_all(process)
        interrupted += finish(process)[0] == -signal.SIGKILL
        goes_on(task, "run", expected, f"{task}: killed after some time")
    return interrupted


def failing_calls(task, expected, count):
    """The disk is full, or read-only, at any call: exit 1, a message that names the file, and the old state."""
    calls = calls_of(task)
    places = [n for n, name in enumerate(calls, 1) if name != "unlink"]
    for n in sorted(DRAW.sample(places, min(count, len(places)))):
        code = DRAW.choice([errno.ENOSPC, errno.EROFS if calls[n - 1] == "open" else errno.EIO])
        what = f"{task}: call {n}, {calls[n - 1]}, fails: {os.strerror(code)}"
        status, message = finish(start(command(task, "run"), **broken(n, code)))
        if status != 0:  # all but the lock's text
            expect(status == 1 and os.strerror(code) in message and "run" in message and len(message.splitlines()) == 1,
                   f"{what}: status {status}, {message}")
        left = [os.path.join(at, f) for at, _, files in os.walk("run") for f in files if "tmp-" in f or f == "lock"]
        expect(not left, f"{what}: {left} are left")
        goes_on(task, "run", expected, what)


def test_kills():
    interrupted = 0
    for task, share in ("images", 0.25), ("steps", 0.35), ("halves", 0.15), ("texts", 0.25):
        expected = whole(task)
        at_calls = round(KILLS * share * 0.75)
        killed_at_calls(task, expected, at_calls)
        interrupted += killed_at_times(task, expected, round(KILLS * share) - at_calls)
    expect(interrupted > 0, "no process was still running")


def test_kills_of_all_ranks():
    if not MPIRUN:
        raise Skip("no MPI")
    if why := mpi.why_not(MPIRUN):
        raise Skip(why)
    count = max(3, KILLS // 3)
    interrupted = killed_at_times("ranks", whole("ranks"), count)
    expect(interrupted > 0, "no process was still running")
    print(f"  {interrupted} of {count} runs of two ranks", flush=True)


def test_failing_disk():
    for task in ("images", "steps", "texts") if KILLS > 50 else ("steps",):
        failing_calls(task, whole(task), max(5, KILLS // 4))


def test_no_room_for_a_file():
    """RLIMIT_FSIZE in the middle of a run: the old files whole, and the run goes on when there is room again."""
    status, message = finish(start([*IMAGES, "--epochs", "2", "--quiet", "--run", "room"]))
    expect(status == 0, message)
    before = {n: open(f"room/{n}", "rb").read() for n in os.listdir("room")}

    def no_room():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (15000, 15000))

    done = subprocess.run([TANDEM, "train", "vit", "--resume", "--run", "room", "--epochs", "3", "--threads", "1", "--quiet"],
                          preexec_fn=no_room, capture_output=True, text=True)
    expect(done.returncode == 1 and "room/last.safetensors.next: writing failed: File too large" in done.stderr, done.stderr)
    after = {n: open(f"room/{n}", "rb").read() for n in os.listdir("room")}
    changed = [n for n in before.keys() | after.keys() if before.get(n) != after.get(n)]
    # Scores are those of a training that came to its end; logs and curves are written as it goes.
    changed = [n for n in changed if n not in ("steps.jsonl", "curves.gp") and not n.startswith("events.")]
    expect(sorted(changed) == ["manifest.sha256", "scores.json", "settings.toml"], f"changed: {changed}")
    status, message = finish(start(["vit", "--resume", "--run", "room", "--quiet"]))
    expect(status == 0, message)


def test_out_of_memory():
    """A step for which there is no memory says what would fit, which then does; so does a dry run."""
    options = [*IMAGES, "--batch-size", "30", "--passes", "64", "--mlp-dim", "64", "--depth", "2", "--epochs", "1", "--device", "cpu"]
    room = {"LD_PRELOAD": BREAK_AT, "BREAK_ALLOC": "2000000"}
    status, message = finish(start([*options, "--quiet", "--run", "crowded"], **room))
    found = re.search(r"^tandem: step 1: cpu: out of memory: .*; in blocks\.0\..*; its plan: stacked, accumulate: 1; what fits: "
                      r"plan stacked, accumulate (\d+) \([\d.]+ MB\); plan sequential, accumulate 1 \(.*; plan replay, accumulate 1 \([\d.]+ MB\)$", message)
    expect(status == 1 and found, f"{status} {message}")
    for fits in ["--accumulate", found.group(1)], ["--plan", "replay"], ["--plan", "sequential"]:
        status, message = finish(start([*options, "--quiet", "--overwrite", "--run", "crowded", *fits], **room))
        expect(status == 0, f"{fits}: {message}")
    shown = subprocess.run([TANDEM, "train", *options, "--run", "none", "--dry-run"], capture_output=True, text=True,
                           env={**os.environ, **room}).stdout.splitlines()
    expect(any(line.startswith("stacked ") and "does not fit: cpu: out of memory" in line for line in shown)
           and any(re.match(r"replay +[\d.]+ +[\d.]+ ", line) for line in shown), shown)


run_cases(globals(), make_data)
