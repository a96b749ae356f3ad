"""The `tandem` command as a user meets it: runs of tiny models, and bad input of every kind.

  test_cli.py PATH_TO_TANDEM
"""

import csv
import json
import math
import os
import random
import re
import shlex
import shutil
import signal
import struct
import subprocess
import sys

from cases import Skip, expect, run_cases
from image_data import make_data, write_png

TANDEM = os.path.abspath(sys.argv[1])
TINY = ["--dim", "16", "--depth", "1", "--heads", "2", "--mlp-dim", "32", "--patch-size", "4",
        "--batch-size", "16", "--threads", "1"]
USAGE, FAILED, STOPPED = 2, 1, 130


def run(*args, status=0):
    done = subprocess.run([TANDEM, *args], capture_output=True, text=True, errors="replace", timeout=60)
    expect(done.returncode == status,
           f"exit status {done.returncode}, expected {status}, of {args}\n{done.stdout}{done.stderr}")
    return done


def snapshot(folder):
    return {os.path.join(at, f): open(os.path.join(at, f), "rb").read() for at, _, fs in os.walk(folder) for f in fs}


def fails(*args, status, says):
    """The command fails with one message on stderr, no results, and no file changed."""
    before = snapshot(".")
    done = run(*args, status=status)
    lines = [line for line in done.stderr.splitlines() if not line.startswith("Try `tandem ")]
    expect(len(lines) == 1 and lines[0].startswith("tandem: "), f"expected one message from {args}:\n{done.stderr}")
    for part in [says] if isinstance(says, str) else says:
        expect(part in lines[0], f"{args}: expected '{part}' in: {lines[0]}")
    expect("terminate" not in done.stderr and done.stdout == "", f"{args}: {done.stdout}{done.stderr}")
    expect(snapshot(".") == before, f"{args}: files were changed")


def train(*args, run_dir, **kwargs):
    return run("train", "vit", "--data", "data", *TINY, "--epochs", "2", "--quiet", "--run", run_dir, *args, **kwargs)


def train_fails(*args, status=USAGE, says):
    fails("train", "vit", "--data", "data", *TINY, "--epochs", "1", "--quiet", "--run", "none", *args, status=status,
          says=says)


def metrics(run_dir):
    """All but the rates and times."""
    with open(f"{run_dir}/metrics.csv") as f:
        return [{k: v for k, v in row.items() if k not in ("samples_per_s", "seconds")} for row in csv.DictReader(f)]


def steps(run_dir):
    """The lines of steps.jsonl, but times and memory."""
    with open(f"{run_dir}/steps.jsonl") as f:
        return [{k: v for k, v in json.loads(line).items() if k not in ("samples_per_s", "seconds", "data_wait", "memory_mb")}
                for line in f]


def scalars(file):
    """(step, tag, value) of each scalar of TensorBoard's event file, and (step, None, None) where steps from there on begin."""
    def crc(content):
        sum_ = 0xffffffff
        for byte in content:
            sum_ ^= byte
            for _ in range(8):
                sum_ = sum_ >> 1 ^ (0x82f63b78 if sum_ & 1 else 0)
        sum_ ^= 0xffffffff
        return ((sum_ >> 15 | sum_ << 17) + 0xa282ead8) & 0xffffffff

    def varint(content, at):
        value = shift = 0
        while True:
            value |= (content[at] & 127) << shift
            at, shift = at + 1, shift + 7
            if content[at - 1] < 128:
                return value, at

    def fields(content):
        at = 0
        while at < len(content):
            key, at = varint(content, at)
            if key & 7 == 0:
                value, at = varint(content, at)
            else:
                size, at = {1: (8, at), 5: (4, at)}.get(key & 7) or varint(content, at)
                value, at = content[at:at + size], at + size
            yield key >> 3, value

    content, at = open(file, "rb").read(), 0
    while at < len(content):
        size, = struct.unpack("<Q", content[at:at + 8])
        event = content[at + 12:at + 12 + size]
        sums = struct.unpack("<I", content[at + 8:at + 12]) + struct.unpack("<I", content[at + 12 + size:at + 16 + size])
        expect(sums == (crc(content[at:at + 8]), crc(event)), f"{file}: a wrong checksum at {at}")
        at += 16 + size
        entries = dict(fields(event))
        if 7 in entries:
            yield entries[2], None, None
        for _, value in fields(entries.get(5, b"")):
            scalar = dict(fields(value))
            yield entries[2], scalar[1].decode(), struct.unpack("<f", scalar[2])[0]


def write(path, content):
    with open(path, "w" if isinstance(content, str) else "wb") as f:
        f.write(content)


def test_help_of_every_command():
    def commands_of(*above):
        text = run(*above, "--help").stdout
        listed = re.findall(r"^  ([a-z][\w-]*) ", text.partition("\nCommands:\n")[2].partition("\n\n")[0], re.MULTILINE)
        return [above] + [command for name in listed for command in commands_of(*above, name)]

    every = commands_of()
    expect(len(every) > 25 and ("train", "vit") in every and ("score", "bleu") in every, every)
    families = {command[:-1] for command in every if command}
    for command in every:
        text = run(*command, "--help")
        expect(text.stderr == "" and "Usage: tandem " + " ".join(command) in text.stdout, f"{command}: {text.stdout}")
        expect(max(map(len, text.stdout.splitlines())) <= 80, f"{command}: lines of more than 80 characters")
        expect(run("help", *command).stdout == text.stdout, f"help {command} says something else")
        if command in families:
            continue
        # Examples end it, of this command and with options that it has.
        examples = re.split(r"\nExamples?:\n", text.stdout)[-1]
        expect("tandem " + " ".join(command) in examples, f"{command}: no example of it")
        for example in re.findall(r"tandem ([^|<>#\n]*)", examples):
            words = shlex.split(example)
            named = next(words[:n] for n in (2, 1) if tuple(words[:n]) in every)
            known = run(*named, "--help").stdout
            for word in words:
                expect(not word.startswith("--") or f"{word} " in known, f"{command}: an example has {word}")
    expect("--epochs INT                epochs [20]" in run("train", "vit", "--help").stdout, "no aligned default")
    expect(run("--version").stdout.strip(), "no version")


def test_wrong_command_lines():
    fails(status=USAGE, says="expected a command: one of data, train")
    fails("trian", status=USAGE, says="unknown command 'trian'; did you mean train?")
    fails("trian", "--help", status=USAGE, says="did you mean train?")
    fails("help", "trian", status=USAGE, says="did you mean train?")
    fails("train", "vti", status=USAGE, says="train: unknown command 'vti'; did you mean vit?")
    fails("train", "vit", "--epoch", "3", status=USAGE, says="unknown option --epoch; did you mean --epochs?")
    fails("train", "vit", "--batchsize=3", status=USAGE, says="did you mean --batch-size?")
    fails("train", "vit", "--cnfig", "x", status=USAGE, says="did you mean --config?")
    fails("train", "vit", "--compare=perhaps", status=USAGE, says="--compare: a flag, expected no value, or true or false")
    fails("predict", "run", "--tpo", "2", status=USAGE, says="did you mean --top?")
    fails("train", "gpt", status=USAGE, says="train: unknown command 'gpt', expected one of vit, translate")
    fails("--foo", status=USAGE, says="unknown option --foo")
    fails("train", "vit", "--foo", status=USAGE, says="train vit: unknown option --foo")
    fails("train", "vit", "extra", status=USAGE, says="unexpected argument 'extra'")
    fails("train", "vit", "--passes", status=USAGE, says="--passes: expected a value")
    fails("gradcheck", "no_such_op", status=USAGE, says="no_such_op")
    fails("eval", status=USAGE, says="eval: RUN is missing (run folder")
    fails("data", "vocab", "x.txt", status=USAGE, says="--out is missing (the file to write")
    fails("bench", "--repeat", "0", status=USAGE, says="--repeat: expected an integer of at least 1")
    fails("bench", "speed", status=USAGE, says="expected one of loss, ops, steps, growth")
    fails("bench", "--device", "tpu", status=USAGE, says="--device: expected auto, cpu")


def test_bench_of_ops():
    run("bench", "ops", "--rows", "8", "--repeat", "1", "--json", "ops.json")
    rows = json.load(open("ops.json"))
    measured = [r for r in rows if "over_floor" in r]
    left_out = {r["op"] for r in rows if r.get("left_out")}
    names = {r["op"] for r in measured}
    registered = {line.split()[0] for line in run("ops").stdout.splitlines()[1:] if " order " in line or " none " in line}
    expect(len(registered) > 100 and names | left_out == registered and not names & left_out,
           f"of {registered}: {names} measured, {left_out} left out")
    expect(len(left_out) < 20, f"left out: {left_out}")
    expect(all(r["median_s"] > 0 and r["floor_s"] > 0 for r in measured), f"a row without times: {measured}")
    ways = {r["name"].rpartition(", ")[2] for r in measured}
    expect(ways >= {"backward", "both"}, f"no backward: {ways}")
    far = [r["over_floor"] for r in measured]
    expect(far == sorted(far, reverse=True), f"not sorted: {far}")


def test_values_out_of_range():
    for option, value, says in (
            ("passes", "0", "at least 1, got 0"), ("passes", "-1", "at least 1"), ("passes", "2.5", "an integer"),
            ("passes", "99999999999999999999", "an integer"), ("passes", "1000000", "at most 65536"),
            ("alpha", "-1", ">= 0"), ("alpha", "nan", ">= 0"), ("alpha", "inf", ">= 0"), ("alpha", "x", "a number"),
            ("rates", "0.1,1.0", "[0, 1), got '1.0'"), ("rates", "-0.1,0.1", "[0, 1)"), ("rates", "0.1,nan", "[0, 1)"),
            ("dropout", "1", "[0, 1)"), ("attention-dropout", "2", "[0, 1)"), ("drop-path", "-1", "[0, 1)"),
            ("label-smoothing", "1", "[0, 1)"), ("lr", "nan", ">= 0"), ("lr", "-1", ">= 0"),
            ("epochs", "0", "at least 1"), ("batch-size", "0", "at least 1"), ("accumulate", "0", "at least 1"),
            ("rdrop-every", "0", "at least 1"), ("patience", "-1", "at least 0"), ("seed", "-1", "at least 0"),
            ("threads", "100000", "at most"), ("clip-norm", "nan", ">= 0"), ("warmup", "-1", "at least 0"),
            ("plan", "parallel", "stacked, sequential, replay, got 'parallel'"), ("preset", "huge", "b16"),
            ("model", "lstm", "vit, cnn"), ("schedule", "foo", "cosine"), ("alpha-schedule", "foo", "warmup"),
            ("optimizer", "foo", "adamw"), ("device", "tpu", "auto, cpu, cuda or cuda:N"),
            ("limit", "55", "at most 54"), ("valid", "60", "fewer than the 60"), ("run", "", "expected a name"),
            ("dropout-from", "1", "below the depth 1")):
        train_fails("--" + option, value, says=["--" + option, says])


def test_values_that_do_not_fit():
    train_fails("--rates", "0.1,0.2,0.3", says=["rates", "2 passes, got 3"])
    train_fails("--passes", "3", "--rates", "0.1", says=["rates", "3 passes, got 1"])
    train_fails("--accumulate", "17", says=["accumulate", "16"])
    train_fails("--patch-size", "3", says="--patch-size 3 does not divide image_size 8, expected 1, 2, 4 or 8")
    train_fails("--heads", "3", says="--heads 3 does not divide dim 16, expected 1, 2, 4 or 8")
    train_fails("--crop-padding", "9", says="padding")
    train_fails("--compare", "--passes", "1", says="--compare")
    train_fails("--rate-scale", "100", says="--rate-scale")
    train_fails("--alpha-schedule", "warmup", says="--alpha-warmup: expected at least 1, got 0")
    train_fails("--cuda-graph", "--device", "cpu", says="--cuda-graph: the model is on the CPU")
    train_fails("--warmup", "1000", says="--warmup: expected fewer than the 4 steps of the run, got 1000")
    train_fails("--resume", "--overwrite", says="--resume")


def test_bad_data():
    def bad(name, says, change=None, status=FAILED, **kwargs):
        make_data(name, **{"train": 3, "test": 1, **kwargs})
        if change:
            change(name)
        train_fails("--data", name, status=status, says=says)

    train_fails("--data", "missing", says=["--data", "'missing'"])
    os.mkdir("empty")
    train_fails("--data", "empty", status=FAILED, says="photos: empty: no photo to train on")
    os.makedirs("bare/train"), os.makedirs("bare/test")
    train_fails("--data", "bare", status=FAILED, says="photos: bare: no photo to train on")
    bad("one_class", "at least 2 classes", classes=("bar",), status=USAGE)
    first = "train/bar/000.png"
    bad("other", "test", lambda d: os.rename(f"{d}/test/bar", f"{d}/test/baz"))
    bad("no_image", "train/bar", lambda d: (shutil.rmtree(f"{d}/train/bar"), os.mkdir(f"{d}/train/bar")))
    png = open("data/" + first, "rb").read()
    bad("text", first, lambda d: write(f"{d}/{first}", "no image"))
    bad("truncated", first, lambda d: write(f"{d}/{first}", png[:len(png) // 2]))
    flipped = bytearray(png)
    flipped[len(png) - 20] ^= 0xFF
    bad("corrupt", first, lambda d: write(f"{d}/{first}", bytes(flipped)))
    bad("none_left", first, lambda d: write(f"{d}/{first}", b""))

    # IDX: a label out of range, a truncated file, a missing one.
    os.mkdir("idx")
    for split, n in (("train", 20), ("t10k", 10)):
        write(f"idx/{split}-images-idx3-ubyte", struct.pack(">IIII", 0x803, n, 28, 28) + bytes(784 * n))
        write(f"idx/{split}-labels-idx1-ubyte", struct.pack(">II", 0x801, n) + bytes(i % 10 for i in range(n)))
    run("train", "vit", "--data", "idx", *TINY, "--epochs", "1", "--run", "idx-run", "--quiet")
    good = open("idx/train-labels-idx1-ubyte", "rb").read()
    write("idx/train-labels-idx1-ubyte", good[:-1] + b"\x0a")
    train_fails("--data", "idx", status=FAILED, says=["train-labels", "10"])
    write("idx/train-labels-idx1-ubyte", good[:-1])
    train_fails("--data", "idx", status=FAILED, says="train-labels")
    os.remove("idx/train-labels-idx1-ubyte")
    train_fails("--data", "idx", says=["--data", "'idx'"])


def test_bad_config_files():
    def bad(content, says):
        write("bad.toml", content)
        train_fails("--config", "bad.toml", says=says)

    bad("alpha = 2\nfoo = 3\n", ["bad.toml:2", "unknown option 'foo'"])
    bad("batch_size = 3\n", ["bad.toml:1", "did you mean --batch-size?"])
    bad("alpha 2\n", ["bad.toml:1", "expected '='"])
    bad("alpha = -2\n", ["bad.toml:1", "--alpha", ">= 0"])
    bad("passes = \"x\"\n", ["bad.toml:1", "--passes", "an integer"])
    bad("passes = 2\npasses = 3\n", ["bad.toml:2", "passes"])
    bad("flip = maybe\n", ["bad.toml:1", "true or false"])
    bad("passes = [1, 2]\n", ["bad.toml:1", "one value"])
    bad("rates = [0.1, 0.2\n", ["bad.toml", "']'"])
    bad("plan = \"replay\n", ["bad.toml:1", "closing quote"])
    bad("[nonsense]\nalpha = 1\n", ["bad.toml:2", "unknown section [nonsense]"])
    bad(bytes(random.Random(3).randrange(128, 256) for _ in range(300)), "bad.toml:1")
    train_fails("--config", "missing.toml", says="missing.toml")
    train_fails("--config", "data", says="'data'")


def test_config_file_and_settings():
    write("run.toml", "# a run\npasses = 3\nrates = [0.1, 0.2,\n  0.3]  # a rate per pass\nflip = true\nplan = 'replay'\n"
          "alpha = 5\n[eval]\ndata = \"x # y\"\n[train.vit]\nlabel-smoothing = 0.1\n")
    train("--config", "run.toml", "--alpha", "0.6", "--tf32", run_dir="from_config")
    train("--passes", "3", "--rates", "0.1,0.2,0.3", "--flip", "--plan", "replay", "--alpha", "0.6",
          "--label-smoothing", "0.1", run_dir="from_options")  # on the CPU --tf32 changes nothing
    expect(metrics("from_config") == metrics("from_options"), "the configuration file trains otherwise")
    expect(len(metrics("from_config")) == 4, "expected a row for each epoch and split")
    # The settings as used run again, to the same numbers.
    run("train", "vit", "--config", "from_config/settings.toml", "--run", "again", "--quiet")
    expect(metrics("again") == metrics("from_config"), "settings.toml trains otherwise")
    a, b = (open(f"{d}/settings.toml").read().replace(d, "") for d in ("again", "from_config"))
    expect(a == b, "settings.toml changed on the way")
    expect("alpha = 0.6\n" in a and "rates = [0.1, 0.2, 0.3]\n" in a and "flip = true\n" in a and "tf32 = true\n" in a, a)
    # Names with TOML's own characters.
    shutil.copytree("data", 'a "b" #c, d')
    train("--data", 'a "b" #c, d', "--epochs", "1", run_dir="odd")
    run("train", "vit", "--config", "odd/settings.toml", "--run", "odd2", "--quiet")
    expect(metrics("odd") == metrics("odd2"), "an odd name is lost in settings.toml")


def test_runs():
    """Options change what is trained; plans do not, but for rounding."""
    base = ["--passes", "3", "--rates", "0.1,0.2,0.3"]
    done = train(*base, run_dir="stacked")
    expect("Run folder: stacked" in done.stdout and done.stderr == "", done.stdout + done.stderr)
    expect(not [f for f in os.listdir("stacked") if "tmp" in f], "temporary files are left")
    for file in "best.safetensors", "last.safetensors", "metrics.csv", "settings.toml":
        expect(os.path.exists("stacked/" + file), f"no {file}")
    reference = metrics("stacked")
    for plan in "sequential", "replay":
        train(*base, "--plan", plan, run_dir=plan)
        for a, b in zip(reference, metrics(plan)):
            for key in "loss", "ce", "kl":
                expect(not a[key] or abs(float(a[key]) - float(b[key])) < 1e-4, f"{plan}: {key} {a[key]} {b[key]}")
    seen = [reference]
    for name, args in {"sgd": ["--optimizer", "sgd"], "adam": ["--optimizer", "adam", "--weight-decay", "1"],
                       "constant": ["--schedule", "constant"], "linear": ["--schedule", "linear"],
                       "inverse_sqrt": ["--schedule", "inverse_sqrt", "--warmup", "2"], "step": ["--schedule", "step"],
                       "warmup": ["--alpha-schedule", "warmup", "--alpha-warmup", "6"], "cnn": ["--model", "cnn",
                       "--width", "4"], "smooth": ["--label-smoothing", "0.2"], "every": ["--rdrop-every", "2"],
                       "limit": ["--limit", "30"], "valid": ["--valid", "20"], "seed": ["--seed", "1"]}.items():
        if name == "every":  # the first pass of other steps has the first rate
            train("--passes", "3", *args, run_dir=name)
        else:
            train(*base, *args, run_dir=name)
        expect(metrics(name) not in seen, f"{name}: the option changes nothing")
        seen.append(metrics(name))
    train(*base, "--accumulate", "4", run_dir="accumulate")
    for a, b in zip(reference, metrics("accumulate")):
        expect(abs(float(a["loss"]) - float(b["loss"])) < 1e-4, "accumulate: another loss")


def test_bf16_on_processors_without_it():
    train(run_dir="f32")
    os.environ["DNNL_MAX_CPU_ISA"] = "AVX2"
    try:
        done = run("train", "vit", "--data", "data", *TINY, "--epochs", "2", "--run", "bf16", "--precision", "bf16", "--device", "cpu")
    finally:
        del os.environ["DNNL_MAX_CPU_ISA"]
    expect(done.stderr.count("no bf16 instructions") == 1, done.stderr)
    losses = [[row["loss"] for row in metrics(name)] for name in ("f32", "bf16")]
    expect(all(abs(float(a) - float(b)) < 1e-5 * float(a) for a, b in zip(*losses)), f"not computed in f32: {losses}")


def test_methods():
    seen = []
    for method in "rdrop", "plain", "mixup", "manifold-mixup", "cutmix", "fgm", "multisample":
        done = train("--method", method, "--head-dropout", "0.3", run_dir="method-" + method)
        expect(("R-Drop" if method == "rdrop" else method) in done.stdout, done.stdout)
        seen.append(metrics("method-" + method))
        expect(seen.count(seen[-1]) == 1, f"{method} trains like another")
    expect("accuracy" in run("eval", "method-fgm").stdout, "a model with --head-dropout is not read")
    train_fails("--method", "mixup", "--model", "cnn", says="--method mixup: expected --model vit, got cnn")
    train_fails("--method", "fgm", "--passes", "3", says="--method fgm: expected --passes 1, got 3")
    train_fails("--method", "plain", "--alpha", "1", says="--method plain: expected --alpha 0, got 1")
    train("--method", "cutmix", "--passes", "2", "--alpha", "1", run_dir="cutmix-twice")
    expect(float(metrics("cutmix-twice")[0]["kl"]) > 0 and float(metrics("method-cutmix")[0]["kl"]) == 0, metrics("cutmix-twice"))


def test_equal_passes():
    says = "warning: no noise is active in this model, so its 2 passes are equal"
    none = ["--dropout", "0", "--attention-dropout", "0", "--head-dropout", "0"]
    for args in none, ["--rates", "0,0"], ["--rate-scale", "0"], [*none, "--compare"]:
        done = train("--passes", "2", *args, "--overwrite", run_dir="equal")
        expect(done.stderr.count(says) == 1, f"{args}: {done.stderr}")
    expect(float(metrics("equal/rdrop")[0]["kl"]) == 0, "passes differ")
    for args in ["--passes", "2"], ["--passes", "1", *none], ["--passes", "2", "--dropout", "0", "--head-dropout", "0.1"]:
        done = train(*args, "--overwrite", run_dir="equal")
        expect("warning" not in done.stderr, f"{args}: {done.stderr}")


def tensors(file):
    """The numbers of a .safetensors file by name."""
    with open(file, "rb") as f:
        header = json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))
        start = f.tell()
        values = {}
        for name, entry in header.items():
            if name != "__metadata__" and entry["dtype"] == "F32":
                begin, end = entry["data_offsets"]
                f.seek(start + begin)
                values[name] = struct.unpack(f"<{(end - begin) // 4}f", f.read(end - begin))
        return values


def test_fine_tuning():
    def tuned(run_dir, *args):
        run("train", "vit", "--data", "data", *TINY, "--limit", "12", "--passes", "1", "--optimizer", "sgd", "--lr",
            "0.1", "--schedule", "constant", "--clip-norm", "0", "--quiet", "--run", run_dir, *args)
        return {n[6:]: v for n, v in tensors(f"{run_dir}/last.safetensors").items() if n.startswith("model.")}

    def moved(to, since):
        return {n: math.dist(to[n], since[n]) for n in since}

    start, one = tuned("t-start", "--epochs", "1", "--lr", "0"), ["--epochs", "1"]
    plain = moved(tuned("t-plain", *one, "--weight-decay", "0"), start)
    scaled = moved(tuned("t-scaled", *one, "--weight-decay", "0", "--layer-decay", "0.5", "--head-lr", "10"), start)
    for name, ratio in {"patch_embed.weight": 0.25, "positions": 0.25, "blocks.0.mlp.fc1.weight": 0.5, "norm.bias": 1,
                        "head.weight": 10, "head.bias": 10}.items():
        expect(abs(scaled[name] / plain[name] / ratio - 1) < 1e-3, f"{name}: {scaled[name] / plain[name]}, not {ratio}")
    decayed = moved(tuned("t-decayed", *one, "--weight-decay", "1", "--decay-all"), start)
    kept = moved(tuned("t-kept", *one, "--weight-decay", "1"), start)
    expect(decayed["norm.weight"] > 2 * kept["norm.weight"] and kept["norm.weight"] == plain["norm.weight"], decayed)
    for freeze, learns in {"1": ["norm.", "head."], "0": ["norm.", "head.", "blocks."],
                           "head.*,*.bias": ["norm.weight", "patch_embed.weight"]}.items():
        for name, far in moved(tuned("t-frozen", *one, "--freeze", freeze, "--overwrite"), start).items():
            frozen = name.endswith(".bias") or name.startswith("head.") if "," in freeze else not any(
                name.startswith(part) for part in learns)
            expect((far == 0) == (frozen or name.endswith("k_proj.bias") and far == 0), f"--freeze {freeze}: {name} {far}")
    tuned("t-ema", *one, "--weight-decay", "0", "--ema", "0.9")
    averaged = moved(tensors("t-ema/best.safetensors"), start)  # d = 2 / 11 after one update
    expect(abs(averaged["head.weight"] / plain["head.weight"] - 9 / 11) < 1e-3, "--ema: best is no average")
    gradual = ["--unfreeze-every", "1", "--ema", "0.5", "--layer-decay", "0.7"]
    for epochs, learns in (1, ["norm.", "head."]), (2, ["norm.", "head.", "blocks."]), (3, [""]):
        now = tuned("t-gradual", *gradual, "--epochs", str(epochs), *(["--resume"] if epochs > 1 else []))
        wrong = [n for n, far in moved(now, start).items()
                 if (far > 0) != any(n.startswith(part) for part in learns) and not n.endswith("k_proj.bias")]
        expect(not wrong, f"epoch {epochs}: {wrong}")
    tuned("t-whole", *gradual, "--epochs", "3")
    expect(tensors("t-whole/last.safetensors") == tensors("t-gradual/last.safetensors"), "a resumed run is another")
    train_fails("--freeze", "nothing*", says='--freeze: no parameter has a name like "nothing*"')
    train_fails("--freeze", "2", says="--freeze: expected at most the 1 blocks, got 2")
    train_fails("--freeze", "*", status=FAILED, says="parameters requires a gradient")
    train_fails("--layer-decay", "0", says="--layer-decay: expected a number in (0, 1], got 0")
    train_fails("--model", "cnn", "--width", "4", "--layer-decay", "0.5", says="depths: expected a Vit")


def test_class_weights():
    plain = train("--passes", "2", run_dir="unweighted") and metrics("unweighted")
    train("--passes", "2", "--class-weights", "1,1,1", run_dir="w-ones")
    for a, b in zip(plain, metrics("w-ones")):
        expect(abs(float(a["loss"]) - float(b["loss"])) < 1e-4, "weights of 1 change the loss")
    write("weights.tsv", "ring\t0.5\nbar\t2\ndot\t0\n")
    train("--passes", "2", "--class-weights", "2,0,0.5", run_dir="w-list")
    train("--passes", "2", "--class-weights", "weights.tsv", run_dir="w-file")
    expect(metrics("w-list") == metrics("w-file") != metrics("w-ones"), "the file has other weights than the list")
    train("--passes", "2", "--class-weights", "2,0,0.5", "--accumulate", "4", run_dir="w-parts")
    for a, b in zip(metrics("w-list"), metrics("w-parts")):
        expect(abs(float(a["loss"]) - float(b["loss"])) < 1e-4, "accumulate: another loss")
    train_fails("--class-weights", "1,2", says="--class-weights: expected a number for each of the 3 classes, got 2")
    train_fails("--class-weights", "1,-2,3", says="expected balanced, numbers >= 0")
    write("short.tsv", "ring\t0.5\n")
    train_fails("--class-weights", "short.tsv", status=FAILED, says="short.tsv: class 'bar' has no weight")


def test_multi_label():
    """Photos of a list, each with several labels: those of its stripes."""
    sets = {"bar": "stripe|left", "dot": "left", "ring": "|"}
    rows = [(f"data/{split}/{name}/{i:03}.png", sets[name], split) for name in sets
            for split, count in (("train", 20), ("test", 6)) for i in range(count)]
    rows.append(("data/train/bar/000.png", "stripe", "test"))  # a set that training has not
    write("sets.csv", "image,label,split\n" + "".join(f"{image},{label},{split}\n" for image, label, split in rows))
    args = ["train", "vit", "--data", "sets.csv", "--multi-label", *TINY, "--image-size", "8", "--lr", "1e-2", "--quiet",
            "--schedule", "constant", "--crop-scale", "1", "--hflip", "0"]
    run(*args, "--epochs", "30", "--passes", "2", "--alpha", "0.6", "--run", "sets")
    scores = json.loads(run("eval", "sets", "--json").stdout)["scores"]
    expect(list(scores) == ["micro-F1", "macro-F1", "mAP", "exact match"] and scores["micro-F1"] > 70, scores)
    given = json.loads(run("eval", "sets", "--data", "sets.csv", "--json").stdout)["scores"]
    expect(given == scores, f"{given} {scores}")
    shown = run("predict", "sets", "data/test/bar/000.png", "--top", "2").stdout.splitlines()[1:]
    expect({row.split()[-1] for row in shown} == {"stripe", "left"}, shown)
    run(*args, "--epochs", "1", "--passes", "2", "--plan", "replay", "--accumulate", "3", "--run", "set-parts", "--compare")
    write("strange.csv", "image,label\ndata/test/bar/000.png,left|moon\n")
    fails("eval", "sets", "--data", "strange.csv", status=FAILED, says="label 'moon' is none of the 2 that training has")
    train_fails("--multi-label", "--method", "fgm", says="--multi-label: expected")
    train_fails("--multi-label", "--model", "cnn", "--width", "4", says="--multi-label: expected")


def test_patience():
    done = train("--lr", "0", "--epochs", "20", "--patience", "2", run_dir="patience")
    expect(len(metrics("patience")) == 2 * 3, f"expected 3 epochs\n{done.stdout}")


def test_report():
    done = run("train", "vit", "--data", "data", *TINY, "--epochs", "2", "--passes", "2", "--compare", "--profile",
               "--run", "compare")
    rows = done.stdout.splitlines()
    expect(any(r.startswith("plain ") for r in rows) and any(r.startswith("R-Drop ") for r in rows), done.stdout)
    expect("layer_norm" in done.stdout, "no profile")
    gap = [r for r in rows if r.startswith("R-Drop - plain: test accuracy ")]
    expect(len(gap) == 1 and "95 % interval" in gap[0] and "over the 18 test images" in gap[0], done.stdout)
    scores = {half: json.load(open(f"compare/{half}/scores.json")) for half in ("plain", "rdrop")}
    for name, half in ("plain ", "plain"), ("R-Drop ", "rdrop"):
        row = next(r for r in rows if r.startswith(name))
        expect(f"{scores[half]['scores']['test accuracy']:.2f}%" in row, (scores[half], row))
    # Both halves are evaluated, and from any folder.
    expected = run("eval", "compare").stdout.splitlines()
    expect([r.split()[0] for r in expected[:3]] == ["run", "compare/plain", "compare/rdrop"], expected)
    expect(expected[3] == gap[0].replace("test accuracy", "accuracy"), (expected, gap))
    there = os.getcwd()
    os.mkdir("elsewhere"), os.chdir("elsewhere")
    lines = run("eval", "../compare", "--json").stdout.splitlines()
    os.chdir(there)
    for line, half in zip(lines, ("plain", "rdrop"), strict=True):
        found = json.loads(line)
        expect(found["run"] == f"../compare/{half}" and found["scores"]["accuracy"] == scores[half]["scores"]["test accuracy"],
               (found, scores))
    expect(set(json.loads(lines[1])["difference"]) == {"of", "value", "low", "high", "within_noise"}, lines)
    expect("epoch 2/2" in done.stderr and "\x1b" not in done.stderr, "progress: " + done.stderr)
    plain, rdrop = metrics("compare/plain"), metrics("compare/rdrop")
    expect(len(plain) == len(rdrop) == 4, "expected two epochs of each")
    expect(float(plain[0]["kl"]) > 0 and plain[0]["loss"] == plain[0]["ce"] and float(rdrop[0]["kl"]) > 0, "kl")
    run("train", "vit", "--resume", "--run", "compare", "--quiet")


def kept(run_dir):
    """The files of a run folder; of TensorBoard's there is one."""
    names = [re.sub(r"^events\..*", "events", name) for name in os.listdir(run_dir)]
    expect(names.count("events") == 1, f"{names}: expected one file of events")
    return set(names)


def test_overwrite():
    train(run_dir="once")
    kept_before = kept("once")
    fails("train", "vit", "--data", "data", *TINY, "--run", "once", status=USAGE, says=["--run", "'once'", "--overwrite"])
    os.mkdir("once/plain")
    write("once/plain/notes.txt", "a user's own file")
    train("--overwrite", "--epochs", "1", run_dir="once")
    expect(os.path.exists("once/plain/notes.txt"), "--overwrite removed a file that is not a run's")
    shutil.rmtree("once/plain")
    expect(len(metrics("once")) == 2 and kept("once") == kept_before, "not overwritten")
    fails("train", "vit", "--run", "once/metrics.csv", "--data", "data", *TINY, status=USAGE, says="once/metrics.csv")
    fails("train", "vit", "--run", "once/metrics.csv/x", "--data", "data", *TINY, "--quiet", status=FAILED,
          says="once/metrics.csv/x")
    # Scores are those of the run that stands there: of none that was replaced, or that did not end.
    train("--compare", "--epochs", "1", "--passes", "2", run_dir="scored")
    scored = [f"scored/{half}/scores.json" for half in ("plain", "rdrop")]
    expect(all(map(os.path.exists, scored)), "no scores")
    train("--overwrite", "--lr", "1e30", run_dir="scored", status=FAILED)
    expect(not any(map(os.path.exists, scored)), "--overwrite left a run's scores")
    train("--overwrite", "--epochs", "1", run_dir="scored")
    expect(os.path.exists("scored/scores.json"), "no scores")
    train("--overwrite", "--lr", "1e30", run_dir="scored", status=FAILED)
    expect(not os.path.exists("scored/scores.json"), "--overwrite left a run's scores")
    # A run that failed before its first epoch is no run to protect.
    done = train("--lr", "1e30", run_dir="nan", status=FAILED)
    expect("training failed after step" in done.stderr and kept("nan") - {"curves.png", "curves.gp"} == {"manifest.sha256", "settings.toml", "steps.jsonl", "events"}, done.stderr)
    expect("; try a smaller --lr than 1e+30, --warmup" in done.stderr, done.stderr)
    train("--epochs", "1", run_dir="nan")


def start_and_stop(run_dir, how):
    process = subprocess.Popen([TANDEM, "train", "vit", "--data", "data", *TINY, "--epochs", "60", "--run", run_dir],
                               stderr=subprocess.PIPE, text=True)
    for line in process.stderr:
        if "epoch  2/60" in line:
            break
    process.send_signal(how)
    message = process.stderr.read()
    process.stderr.close()
    return process.wait(), message


def test_resume():
    run("train", "vit", "--data", "data", *TINY, "--epochs", "60", "--run", "whole", "--quiet")
    for how in signal.SIGINT, signal.SIGKILL:
        name = how.name
        status, message = start_and_stop(name, how)
        epochs = len(metrics(name)) // 2
        if how == signal.SIGINT:
            expect(status == STOPPED and "--resume` goes on" in message, f"{status} {message}")
        else:
            expect(status == -how, f"status {status}")
        expect(epochs < 60, f"it was not stopped: {message}")
        run("train", "vit", "--run", name, "--resume", "--quiet")
        expect(metrics(name) == metrics("whole"), f"resumed after {epochs} epochs, it differs from a whole run")
        best = [open(f"{d}/best.safetensors", "rb").read() for d in ("whole", name)]
        expect(best[0] == best[1], "the best weights differ from those of a whole run")
    fails("train", "vit", "--resume", "--run", "nowhere", status=USAGE, says=["'nowhere'", "settings.toml"])
    fails("train", "vit", "--resume", "--run", "nothing/at/all", status=USAGE, says=["'nothing/at/all'", "holds no run"])


def test_sweep():
    grid = ["sweep", "vit", "--passes", "1,2", "--alpha", "0.5,2", "--seeds", "2", "--run", "grid"]
    options = ["--", "--data", "data", *TINY, "--epochs", "2"]
    shown = run(*grid, *options).stdout
    names = ["plain", "m2-a0.5", "m2-a2"]
    expect({f"{name}-s{seed}" for name in names for seed in (0, 1)} <= set(os.listdir("grid")), os.listdir("grid"))
    rows = [line.split() for line in shown.splitlines() if line.startswith(("plain", "R-Drop"))]
    expect([row[:3] for row in rows] == [["plain", "1", "-"], ["R-Drop", "2", "0.5"], ["R-Drop", "2", "2"]], shown)
    for name, row in zip(names, rows):
        scores = [json.load(open(f"grid/{name}-s{seed}/scores.json")) for seed in (0, 1)]
        tests = [next(iter(each["scores"].values())) for each in scores]
        expect(abs(float(row[4]) - sum(tests) / 2) < 0.01 * sum(tests), f"{name}: {tests}, shown {row}")
        expect(all(each["validation"]["name"] == "accuracy" and each["validation"]["higher_is_better"] for each in scores), scores)
    best = max(names, key=lambda name: sum(json.load(open(f"grid/{name}-s{seed}/scores.json"))["validation"]["value"] for seed in (0, 1)))
    marked = [name for name, row in zip(names, rows) if row[-1] == "validation"]
    expect(len(marked) == 1 and open("grid/best.toml").read() == open(f"grid/{marked[0]}-s0/settings.toml").read(), shown)
    validated = {name: sum(json.load(open(f"grid/{name}-s{seed}/scores.json"))["validation"]["value"] for seed in (0, 1)) for name in names}
    expect(validated[marked[0]] == validated[best], f"{validated}, marked {marked}")
    # What is done stays; what is missing is made again, and is the same.
    before = os.stat("grid/plain-s0/scores.json").st_mtime_ns
    shutil.rmtree("grid/m2-a2-s1")
    os.remove("grid/m2-a0.5-s0/scores.json")
    expect(run(*grid, "--jobs", "2", *options).stdout == shown, "gone on with, a sweep comes to something else")
    expect(os.stat("grid/plain-s0/scores.json").st_mtime_ns == before, "a training that was done was made again")
    fails(*grid, *options, "--lr", "0.1", status=USAGE, says=["grid", "was begun with", "0.1"])
    fails("sweep", "vit", "--run", "other", "--", "--seed", "3", status=USAGE, says=["--seed", "sweep's own"])
    fails("sweep", "cats", "--run", "other", status=USAGE, says=["'cats'", "tandem train --help"])
    wrong = run("sweep", "vit", "--passes", "1", "--seeds", "1", "--run", "wrong", "--", "--data", "nowhere", status=USAGE)
    expect("no training came to its end" in wrong.stderr and "nowhere" in wrong.stderr, wrong.stderr)
    run("train", "vit", "--config", "grid/best.toml", "--run", "again", "--quiet")


def test_dry_run():
    before = snapshot(".")
    shown = run("train", "vit", "--data", "data", *TINY, "--epochs", "7", "--run", "never", "--dry-run", "--accumulate", "2").stdout
    rows = {line.split()[0]: line.split()[1:] for line in shown.splitlines() if line.strip()}
    expect({"stacked", "sequential", "replay", "all", "head", "blocks.0"} <= rows.keys(), shown)
    counts = [int(row[0]) for name, row in rows.items() if len(row) == 2 and row[0].isdigit() and name != "all"]
    expect(sum(counts) == int(rows["all"][0]) > 1000, shown)
    expect(all(float(rows[plan][1]) > 0 and ":" in rows[plan][2] for plan in ("stacked", "replay")), shown)
    expect(re.search(r"(\d+) images, (\d+) steps an epoch, (\d+) in 7 epochs", shown), shown)
    expect(snapshot(".") == before and not os.path.exists("never"), "a dry run wrote something")
    frozen = run("train", "vit", "--data", "data", *TINY, "--run", "never", "--dry-run", "--freeze", "1", "--passes", "1").stdout
    expect("stacked" in frozen and "replay" not in frozen, frozen)
    expect(re.search(r"blocks\.0 +\d+ +0$", frozen, re.MULTILINE), frozen)


def test_a_run_in_pieces():
    """--max-time ends a run within an epoch, saved; so does every number of resumes that it takes."""
    options = ["--epochs", "3", "--batch-size", "2"]
    run("train", "vit", "--data", "data", *TINY, *options, "--run", "whole", "--quiet")
    first = ["train", "vit", "--data", "data", *TINY, *options, "--run", "pieces", "--quiet", "--save-every", "2", "--max-time", "0.001s"]
    pieces = 0
    for pieces in range(1, 200):
        arguments = first if pieces == 1 else ["train", "vit", "--run", "pieces", "--resume", "--quiet", "--max-time", "0.05s"]
        done = subprocess.run([TANDEM, *arguments], capture_output=True, text=True, timeout=60,
                              env={**os.environ, "PATH": "/nowhere"})  # no picture of each piece
        if done.returncode == 0:
            break
        expect(done.returncode == STOPPED and "which is saved" in done.stderr, f"{done.returncode} {done.stderr}")
        if pieces == 1:
            fails("eval", "pieces", status=FAILED, says=["pieces", "no epoch has ended"])
            with open("pieces/steps.jsonl", "a") as f:
                f.write('{"step":"x"}\n{"step":9,"split')  # damage, and what a killed run leaves
    expect(pieces > 2 and metrics("pieces") == metrics("whole"), f"{pieces} pieces differ from a whole run")
    expect(steps("pieces") == steps("whole"), "the lines of the steps differ from those of a whole run")
    seen = {}
    for name in sorted(os.listdir("pieces"), key=lambda name: os.stat(f"pieces/{name}").st_mtime_ns):
        if name.startswith("events."):
            for step, tag, value in scalars(f"pieces/{name}"):
                if tag is None:  # begins after a checkpoint
                    seen = {key: old for key, old in seen.items() if key[0] < step}
                else:
                    expect((step, tag) not in seen, f"{name}: {tag} of step {step} twice")
                    seen[step, tag] = value
    wanted = [(row["step"], row["loss"]) for row in steps("whole") if row["split"] == "train"]
    expect([step for step, _ in wanted] == list(range(1, wanted[-1][0] + 1)) and len(wanted) > 50, "not a line for each step")
    expect(all(abs(seen[step, "train/loss"] - loss) <= 1e-6 * loss for step, loss in wanted), "events differ from steps.jsonl")
    best = [open(f"{d}/best.safetensors", "rb").read() for d in ("whole", "pieces")]
    expect(best[0] == best[1], "the best weights differ from those of a whole run")
    for value in ("0", "1.5", "10x", "m", "-3s", "1h 30m", "500q"):
        fails(*first, "--save-every", value, status=USAGE, says=["--save-every", f"got '{value}'"])
    fails(*first, "--max-time", "500", status=USAGE, says=["--max-time", "expected a time as 90s"])


def test_steps_that_are_not_finite():
    """--on-nan: what is told, what the run comes to, and that it goes on from anywhere."""
    huge = ["--lr", "1e30", "--schedule", "constant", "--clip-norm", "0", "--save-every", "1"]
    done = train(*huge, run_dir="stop", status=FAILED)
    for says in ("training failed after step 1: step 2 is not finite: ", "; its origin: ", "; in blocks.0.",
                 "; its batch: samples ", "; the last checkpoint: stop/last.safetensors, after step 1; try a smaller --lr than 1e+30"):
        expect(says in done.stderr, f"expected '{says}' in: {done.stderr}")
    expect(len(done.stderr.splitlines()) == 1, done.stderr)
    # All that follow are not finite, either: told once, then the end of the epoch.
    done = train(*huge, "--on-nan", "skip", run_dir="skip", status=FAILED)
    expect(done.stderr.count("it is skipped, as further ones will be (on_nan: skip)") == 1, done.stderr)
    expect(["skipped" in row for row in steps("skip")] == [False, True, True, True] and "loss" not in steps("skip")[1], steps("skip"))
    done = train(*huge, "--on-nan", "back", run_dir="back", status=FAILED)
    expect("going back there, and on with step 3: the batches since then are left out" in done.stderr, done.stderr)
    expect("it was gone back to before, and none was written since" in done.stderr, done.stderr)
    # A run that stopped goes on with another answer.
    done = run("train", "vit", "--resume", "--run", "stop", "--quiet", "--on-nan", "skip", status=FAILED)
    expect("step 2 is not finite" in done.stderr and "on_nan: skip" in done.stderr, done.stderr)
    train_fails("--on-nan", "ignore", says="--on-nan: expected one of stop, skip, back, got 'ignore'")


def test_keep_and_resume_from():
    options = ["--epochs", "2", "--save-every", "1", "--keep", "3"]
    train(*options, run_dir="whole")
    last = len([row for row in steps("whole") if row["split"] == "train"])
    names = [f"step-{step:06}.safetensors" for step in (last - 2, last - 1)]
    expect(sorted(n for n in os.listdir("whole") if n.startswith("step-")) == names, os.listdir("whole"))
    expect(all(name in open("whole/manifest.sha256").read() for name in names), "not listed")
    for step in last - 2, last - 1, last:
        copy_of("whole")
        run("train", "vit", "--run", "copy", "--resume-from", str(step), "--quiet")
        expect(metrics("copy") == metrics("whole") and steps("copy") == steps("whole"), f"from step {step} it comes to something else")
        expect(kept("whole") - {"events"} <= set(os.listdir("copy")), (os.listdir("copy"), os.listdir("whole")))
        for name in "best.safetensors", names[1]:
            same = [tensors(f"{d}/{name}") for d in ("copy", "whole")]
            expect(same[0] == same[1], f"from step {step}: {name} differs")
    resume = ["train", "vit", "--run", "whole", "--quiet"]
    fails(*resume, "--resume-from", "1", status=USAGE, says=f"has no checkpoint of step 1, expected one of {last - 2}, {last - 1}, {last}")
    expect("resume-from" not in open("copy/settings.toml").read(), "--resume-from is no setting")
    # Of --compare's halves, the one that came last.
    train(*options, "--compare", run_dir="both")
    plain = snapshot("both/plain")
    run("train", "vit", "--run", "both", "--resume-from", str(last - 1), "--quiet")
    expect(metrics("both/rdrop") == metrics("whole"), "R-Drop's half differs")
    changed = {name for name, content in snapshot("both/plain").items() if plain.get(name) != content}
    expect(changed <= {f"both/plain/{name}" for name in ("scores.json", "manifest.sha256", "curves.gp", "curves.png")}, f"changed: {changed}")
    run("train", "vit", "--run", "whole", "--resume", "--keep", "1", "--epochs", "3", "--quiet")
    expect(not [n for n in os.listdir("whole") if n.startswith("step-")], "--keep 1 leaves others")
    train_fails("--keep", "0", says="--keep: expected an integer")


def test_eval_every():
    options = ["--epochs", "2", "--batch-size", "6"]
    train(*options, run_dir="plain")
    shown = train(*options, "--eval-every", "4", run_dir="often").stdout
    rows = [(int(row["epoch"]), int(row["step"]), row["split"]) for row in metrics("often")]
    an_epoch = int(metrics("plain")[0]["step"])
    expected = []
    for epoch in 1, 2:
        first, last = (epoch - 1) * an_epoch, epoch * an_epoch
        expected += [(epoch, step, "valid") for step in range(first + 1, last) if step % 4 == 0]
        expected += [(epoch, last, "train"), (epoch, last, "valid")]
    expect(rows == expected, f"{rows}, expected {expected}")
    expect([r for r in metrics("often") if r["split"] == "train"] == [r for r in metrics("plain") if r["split"] == "train"],
           "evaluations change the training")
    expect("(step " in shown, shown)
    expect([r["step"] for r in steps("often") if r["split"] == "valid"] == [step for _, step, split in rows if split == "valid"],
           "steps.jsonl has other validations")
    # Patience counts validations; it ends a run within an epoch, whose picture and report there are.
    done = train(*options, "--eval-every", "1", "--patience", "2", "--lr", "0", run_dir="ended")
    expect([row["step"] for row in metrics("ended")] == ["1", "2", "3"], metrics("ended"))
    expect("plain" in done.stdout or "R-Drop" in done.stdout, done.stdout)
    fails("train", "vit", "--resume", "--run", "often", "--eval-every", "5", "--quiet", status=USAGE, says="--eval-every: the run has 4")


def test_curves():
    """A picture of a run that was interrupted, of one epoch, and of two halves; no panel without numbers."""
    if not shutil.which("gnuplot"):
        raise Skip("gnuplot is not installed")
    for log in "1", "0":
        train("--epochs", "1", "--log-every", log, run_dir="one" + log)
        expect(os.path.getsize(f"one{log}/curves.png") > 1000, "no picture")
    script = open("one1/curves.gp").read()
    expect("KL between the passes" in script and "no values" not in script and "best validation" in script, script[:2000])
    expect("KL between the passes" not in train("--epochs", "1", "--passes", "1", "--measure-kl", "0", run_dir="flat").stdout +
           open("flat/curves.gp").read(), "a panel of zeros")
    train("--epochs", "2", "--compare", run_dir="halves")
    for folder, title in ("halves", "R-Drop"), ("halves/plain", "Tandem: halves/plain"), ("halves/rdrop", "Tandem: halves/rdrop"):
        expect(title in open(f"{folder}/curves.gp").read() and os.path.getsize(f"{folder}/curves.png") > 1000, f"no picture in {folder}")
    status, _ = start_and_stop("stopped", signal.SIGTERM)
    expect(status == STOPPED and "(interrupted)" in open("stopped/curves.gp").read() and os.path.exists("stopped/curves.png"),
           "no picture of an interrupted run")
    done = run("train", "vit", "--data", "data", *TINY, "--epochs", "5", "--run", "at once", "--quiet", "--max-time", "0.001s", status=STOPPED)
    expect(os.path.exists("at once/curves.png") and "which is saved" in done.stderr, done.stderr)
    drawn = subprocess.run(["gnuplot", "curves.gp"], cwd="stopped", capture_output=True, text=True, timeout=60)
    expect(drawn.returncode == 0 and drawn.stdout + drawn.stderr == "", drawn)


def copy_of(run_dir, name="copy"):
    shutil.rmtree(name, ignore_errors=True)
    shutil.copytree(run_dir, name)
    return name


def test_resume_with_other_options():
    train("--warmup", "2", run_dir="whole")
    resume = ["train", "vit", "--resume", "--run", "whole", "--quiet"]
    for option, was, now in (("dim", "16", "32"), ("batch-size", "16", "8"), ("precision", "f32", "bf16"), ("lr", "0.001", "0.1"),
                             ("schedule", "cosine", "linear"), ("passes", "2", "3"), ("dropout", "0.1", "0.2"),
                             ("weight-decay", "0.05", "0"), ("seed", "0", "1"), ("optimizer", "adamw", "sgd"), ("limit", "0", "9"),
                             ("warmup", "2", "0"), ("beta2", "0.999", "0.9"), ("valid", "0", "7"), ("crop-padding", "0", "1")):
        fails(*resume, f"--{option}", now, status=USAGE,
              says=[f"--{option}: the run has {was} in whole/settings.toml, got {now}", "only these can change: --epochs"])
    fails(*resume, "--flip", status=USAGE, says="--flip: the run has false in whole/settings.toml, got true")
    fails(*resume, "--rates", "0.1,0.2", status=USAGE, says="rates: the run in 'whole' has '', got '0.1,0.2'")
    fails(*resume, "--epochs", "1", status=USAGE, says="epochs: the run in 'whole' has done 2, expected at least as many, got 1")
    # Other data: of other names, of other pictures, one picture more.
    make_data("renamed", classes=("bat", "cat", "cow"))
    fails(*resume, "--data", "renamed", status=USAGE, says=["classes: the run in 'whole' has", "ring", "cow"])
    shutil.copytree("data", "other")
    shutil.copy("data/train/bar/001.png", "other/train/bar/000.png")
    fails(*resume, "--data", "other", status=USAGE, says=["'whole'", "got"])
    shutil.copy("data/train/bar/000.png", "other/train/bar/000.png")
    run(*resume, "--data", "other", "--lr", "1e-3", "--epochs", "3")  # the same, in another place
    expect("other" in open("whole/settings.toml").read() and len(metrics("whole")) == 6, "it does not go on")
    # The folder itself may be moved.
    shutil.move("whole", "moved")
    run("train", "vit", "--resume", "--run", "moved", "--epochs", "4", "--quiet")
    run("eval", "moved")


def test_a_schedule_goes_on_where_it_was():
    """What --warmup and --decay-steps leave to the length of a run is settled when it begins."""
    train("--schedule", "step", run_dir="part")
    settled = re.search(r"^decay-steps = (\d+)$", open("part/settings.toml").read(), re.MULTILINE).group(1)
    expect(int(settled) > 0, "decay-steps is not settled")
    train("--schedule", "step", "--decay-steps", settled, "--epochs", "4", run_dir="whole")
    run("train", "vit", "--resume", "--run", "part", "--epochs", "4", "--quiet")
    expect(metrics("part") == metrics("whole"), "the rate does not go on where it was")


def test_a_longer_run_is_told_of_its_rate():
    for schedule, hints in ("cosine", 1), ("linear", 1), ("constant", 0):
        train("--schedule", schedule, run_dir="short-" + schedule)
        longer = ["train", "vit", "--resume", "--run", "short-" + schedule]
        expect("schedule of the learning rate" not in run(*longer).stderr, "there is a hint of a run of the same length")
        said = re.findall(r"^hint: the \w+ schedule of the learning rate ended with epoch 2 and ends with epoch 4 now: epoch 3 begins at (\S+),",
                          run(*longer, "--epochs", "4").stderr, re.MULTILINE)
        expect(len(said) == hints, f"{schedule}: {len(said)} hints")
        rates = [float(row["lr"]) for row in metrics("short-" + schedule) if row["split"] == "train"]
        expect(not said or rates[1] < float(said[0]) and float(said[0]) >= rates[2] > rates[3], f"{schedule}: {said} {rates}")


def test_the_last_step_learns():
    for schedule in "cosine", "linear":
        train("--schedule", schedule, "--epochs", "1", "--batch-size", "64", "--warmup", "0", run_dir="once-" + schedule)
        rate = float(metrics("once-" + schedule)[0]["lr"])
        expect(rate > 0, f"{schedule}: the only step has a rate of {rate}")


def test_damaged_runs():
    """Whatever part of a run is damaged shows at once, with its name, and nothing is changed."""
    train("--compare", run_dir="whole")
    draw = random.Random(4)
    for part, names in (("", ["settings.toml"]), ("plain/", ["last.safetensors", "best.safetensors", "metrics.csv"]),
                        ("rdrop/", ["last.safetensors", "best.safetensors", "metrics.csv", "manifest.sha256"])):
        for name in names:
            copy_of("whole")
            file = f"copy/{part}{name}"
            content = open(file, "rb").read()
            at = draw.randrange(len(content))
            for damaged in (content[:at], content[:at] + bytes([content[at] ^ 1 << draw.randrange(8)]) + content[at + 1:]):
                write(file, damaged)
                fails("train", "vit", "--resume", "--run", "copy", "--epochs", "3", "--quiet", status=FAILED, says=file)
                if name == "best.safetensors":
                    fails("eval", f"copy/{part}", status=FAILED, says=file)
                    fails("predict", file, "data/test/bar/000.png", status=FAILED, says=file)
    edited = open("whole/settings.toml").read().replace("lr = 0.001", "lr = 0.002")
    write(copy_of("whole") + "/settings.toml", edited)
    fails("train", "vit", "--resume", "--run", "copy", "--quiet", status=FAILED, says=["copy/settings.toml", "changed by hand"])
    fails("eval", "copy/rdrop/none", status=FAILED, says="copy/rdrop/none")


def test_runs_of_older_versions():
    """Without a manifest a run opens, with one warning, and has one when it goes on."""
    train(run_dir="new")
    copy_of("new", "old")
    os.remove("old/manifest.sha256")
    for command in ["eval", "old"], ["predict", "old", "data/test/bar/000.png"], ["train", "vit", "--resume", "--run", "old", "--quiet"]:
        done = run(*command)
        expect(done.stderr.splitlines() == ["tandem: warning: old: made before runs had a manifest.sha256: its files are not "
                                            "checked"], done.stderr)
    expect(run("eval", "old").stderr == "", "it is not checked now")
    # last.safetensors and the settings alone give a whole run.
    os.mkdir("bare")
    for name in "last.safetensors", "settings.toml":
        shutil.copy(f"new/{name}", f"bare/{name}")
    run("train", "vit", "--resume", "--run", "bare", "--quiet")
    for name in os.listdir("new"):
        if name not in ("curves.gp", "curves.png", "last.safetensors", "settings.toml", "manifest.sha256", "steps.jsonl") \
                and not name.startswith("events."):
            expect(open(f"bare/{name}", "rb").read() == open(f"new/{name}", "rb").read(), f"{name} is not that of the run")


def test_two_trainings_in_one_folder():
    process = subprocess.Popen([TANDEM, "train", "vit", "--data", "data", *TINY, "--epochs", "1000", "--run", "busy"],
                               stderr=subprocess.PIPE, text=True)
    try:
        for line in process.stderr:
            if "epoch    2/1000" in line:
                break
        for more in ["--resume"], ["--overwrite"], []:
            done = run("train", "vit", "--data", "data", *TINY, "--quiet", "--run", "busy", *more, status=FAILED)
            expect(f"'busy' is in use by process {process.pid} on " in done.stderr, done.stderr)
        for _ in range(5):
            run("eval", "busy")  # reading goes on
    finally:
        process.kill()
        process.stderr.close()
        process.wait()
    run("train", "vit", "--resume", "--run", "busy", "--epochs", "1000", "--patience", "1", "--quiet")


def test_limit_is_of_every_class():
    """Classes that differ by brightness: ten images of a list that is sorted by class teach all of them."""
    draw = random.Random(1)
    for split, count in (("train", 12), ("test", 4)):
        for level, name in zip((20, 128, 235), ("ant", "bee", "cat")):
            os.makedirs(f"sorted/{split}/{name}")
            for i in range(count):
                write_png(f"sorted/{split}/{name}/{i:02}.png", 8, 8, [level + draw.randrange(-15, 16) for _ in range(64)])
    done = run("train", "vit", "--data", "sorted", *TINY, "--valid", "4", "--limit", "10", "--epochs", "30", "--lr", "0.01",
               "--passes", "1", "--run", "limited", "--quiet")
    expect(float(done.stdout.split("R-Drop" if "R-Drop" in done.stdout else "plain")[1].split()[2].rstrip("%")) > 90, done.stdout)


def test_files_that_are_no_images_are_counted():
    write("data/train/bar/notes.txt", "x")
    write("data/test/README", "x")
    done = run("train", "vit", "--data", "data", *TINY, "--epochs", "1", "--run", "counted")
    expect("2 files that are no images were left out" in done.stderr, done.stderr)
    write("data/train/bar/photo.HEIC", "x")
    train_fails(status=FAILED, says=["data/train/bar/photo.HEIC", "a .HEIC file, expected JPEG, PNG or WebP"])


def photo_files():
    with open(os.path.join(os.path.dirname(__file__), "../golden/photos.json")) as f:
        return {file["name"]: bytes.fromhex(file["bytes"]) for file in json.load(f)["files"]}


def make_photos(root, per_class=12):
    """JPEG, WebP and PNG files of several sizes, nested: classes by what they are of."""
    photos = photo_files()
    for label, names in {"large": ["baseline", "progressive", "WebP", "CMYK", "grey JPEG"],
                         "small": ["turned 6 JPEG", "palette PNG", "clear PNG", "lossless WebP"]}.items():
        for i in range(per_class):
            os.makedirs(f"{root}/{label}/{i % 2}", exist_ok=True)
            name = names[i % len(names)]
            write(f"{root}/{label}/{i % 2}/{i:02}.{'png' if 'PNG' in name else 'webp' if 'WebP' in name else 'JPG'}", photos[name])


PHOTOS = ["--dim", "16", "--depth", "1", "--heads", "2", "--mlp-dim", "32", "--threads", "1"]


def test_photos():
    make_photos("photos/nested")
    write("photos/nested/large/notes.txt", "x")
    done = run("train", "vit", "--data", "photos", *PHOTOS, "--epochs", "4", "--lr", "0.01", "--run", "whole")
    for says in ("20 training, 2 validation and 2 test photos of 2 classes", "held out of one folder", "1 files that are no images",
                 "Images of 32x32 pixels", "8x8 patches of 4, 8 in a batch"):
        expect(says in done.stderr, f"expected '{says}' in: {done.stderr}")
    # What was chosen is kept, and a run goes on as if it had not stopped.
    run("train", "vit", "--data", "photos", *PHOTOS, "--epochs", "2", "--lr", "0.01", "--schedule", "constant", "--run", "parts", "--quiet")
    run("train", "vit", "--data", "photos", *PHOTOS, "--epochs", "4", "--lr", "0.01", "--schedule", "constant", "--run", "once", "--quiet")
    shutil.move("photos", "moved")
    run("train", "vit", "--resume", "--run", "parts", "--epochs", "4", "--data", "moved", "--quiet")
    expect(metrics("parts") == metrics("once"), "a resumed run differs")
    expect("image-size = 32" in open("once/settings.toml").read(), open("once/settings.toml").read())
    # Evaluation: of what was held out, and of another folder.
    first = run("eval", "parts").stdout.splitlines()
    expect(first[1].split()[0] == "2", first)
    other = run("eval", "whole", "--data", "moved/nested").stdout.splitlines()
    expect(other[1].split()[0] == "24" and float(other[1].split()[1][:-1]) > 60, other)
    files = sorted(os.path.join(at, f) for at, _, names in os.walk("moved/nested") for f in names if f != "notes.txt")
    rows = run("predict", "whole", *files).stdout.splitlines()[1:]
    right = sum(f"/{row.split()[-1]}/" in row for row in rows)
    expect(len(rows) == 24 and f"{100 * right / 24:.2f}%" == other[1].split()[1], f"{right} of 24 are right, eval says {other}")


def test_photos_of_sizes_that_images_in_memory_do_not_have():
    make_data("oblong", width=12), make_data("mixed")
    write_png("mixed/train/bar/001.png", 9, 9, [0] * 81)
    for name, side in ("oblong", 8), ("mixed", 8):
        done = run("train", "vit", "--data", name, *PHOTOS, "--epochs", "1", "--run", "run-" + name)
        expect(f"Images of {side}x{side} pixels" in done.stderr, done.stderr)
    done = run("train", "vit", "--data", "data", "--epochs", "1", "--run", "fits")  # no patch of the preset divides 8
    expect("18 test images" in done.stderr, done.stderr)


def test_photos_of_every_kind_of_training():
    make_photos("photos", per_class=8)
    write("photos/list.csv", "image,label,split\n" + "".join(
        f"{label}/{i % 2}/{os.path.basename(name)},{label},{'train' if i < 6 else 'val'}\n"
        for label in ("large", "small") for i in range(8) for name in [next(f for f in os.listdir(f"photos/{label}/{i % 2}") if f.startswith(f"{i:02}."))]))
    every = ["--rand-augment", "2", "--color-jitter", "0.4", "--erasing", "0.3", "--augment-passes", "--dropout", "0", "--epochs", "2",
             "--image-size", "16", "--batch-size", "4", "--quiet", *PHOTOS]
    for plan in "stacked", "sequential", "replay":
        done = run("train", "vit", "--data", "photos/list.csv", *every, "--plan", plan, "--run", plan)
        expect("no noise is active" not in done.stderr, done.stderr)
    found = [[float(row["loss"]) for row in metrics(plan)] for plan in ("stacked", "sequential", "replay")]
    expect(all(abs(a - b) < 1e-3 * a for other in found[1:] for a, b in zip(found[0], other)), f"plans differ: {found}")
    expect(all(float(row["kl"]) > 0 for row in metrics("stacked") if row["split"] == "train"), metrics("stacked"))
    once = metrics("stacked")
    run("train", "vit", "--data", "photos/list.csv", *every, "--threads", "2", "--accumulate", "2", "--run", "other")
    expect(all(abs(float(a["loss"]) - float(b["loss"])) < 1e-3 for a, b in zip(once, metrics("other"))), "micro-batches differ")
    run("train", "vit", "--data", "photos", *every, "--compare", "--run", "both")
    run("train", "vit", "--data", "photos", "--model", "cnn", "--epochs", "1", "--run", "cnn", "--quiet")


def test_bad_photos():
    make_photos("photos")
    jpeg = photo_files()["baseline"]
    bad = {"empty.jpg": b"", "half.jpg": jpeg[:len(jpeg) // 2], "text.png": b"hello", "old.bmp": b"BM"}
    for name, data in bad.items():
        write(f"photos/small/{name}", data)
        fails("train", "vit", "--data", "photos", *PHOTOS, "--run", "none", "--quiet", status=FAILED,
              says=[f"photos/small/{name}", "--on-bad-image skip"])
        os.remove(f"photos/small/{name}")
    for name, data in bad.items():
        write(f"photos/small/{name}", data)
    done = run("train", "vit", "--data", "photos", *PHOTOS, "--epochs", "1", "--on-bad-image", "skip", "--run", "skipped")
    expect("4 pictures that cannot be read were left out" in done.stderr and all(f"  photos/small/{name}: " in done.stderr for name in bad),
           done.stderr)
    expect("4 pictures that cannot be read were left out" in run("eval", "skipped").stderr, "bad pictures are not counted")
    os.rename("photos/large", "photos/Small")
    fails("train", "vit", "--data", "photos", *PHOTOS, "--on-bad-image", "skip", "--run", "none", "--quiet", status=FAILED,
          says="the classes 'Small' and 'small' differ by case alone")
    write("photos/list.tsv", "small/0/00.JPG\tcat\n../other.jpg\tdog\n")
    fails("train", "vit", "--data", "photos/list.tsv", *PHOTOS, "--run", "none", "--quiet", status=FAILED,
          says="photos/list.tsv: line 2: the image '../other.jpg' leads outside of the list's folder")
    # A whole header and end, and damage between: found when it is decoded.
    shutil.rmtree("photos"), make_photos("photos")
    write("photos/small/flipped.jpg", jpeg[:-200] + b"\xff\xd9" + jpeg[-198:])
    done = run("train", "vit", "--data", "photos", *PHOTOS, "--epochs", "3", "--crop-scale", "1", "--run", "flipped", status=FAILED)
    expect("tandem: photos/small/flipped.jpg: corrupt JPEG" in done.stderr, done.stderr)
    done = run("train", "vit", "--run", "flipped", "--resume", "--on-bad-image", "skip")
    expect(done.stderr.count("photos/small/flipped.jpg: corrupt JPEG") == 1 and "left out" in done.stderr, done.stderr)


def test_eval_and_predict():
    train("--epochs", "6", "--lr", "0.01", run_dir="good")
    rows = run("eval", "good").stdout.splitlines()
    expect(rows[0].split() == ["images", "accuracy", "CE", "images/s"] and rows[1].split()[0] == "18", rows)
    expect(run("eval", "good", "--data", "data").stdout.split()[5] == rows[1].split()[1], "another accuracy")
    files = ["data/test/bar/000.png", "data/test/dot/000.png"]
    rows = run("predict", "good", *files, "--top", "3").stdout.splitlines()
    expect(len(rows) == 7 and rows[1].startswith(files[0]) and rows[4].startswith(files[1]), rows)
    expect(abs(sum(float(r.split("%")[0].split()[-1]) for r in rows[1:4]) - 100) < 0.05, rows)
    expect({r.split()[-1] for r in rows[1:4]} == {"bar", "dot", "ring"}, rows)

    write_png("large.png", 9, 9, [0] * 81)
    write("text.png", "no image")
    png = open(files[0], "rb").read()
    write("half.png", png[:len(png) // 2])
    bad = ("large.png", "9x9"), ("text.png", "not a PNG"), ("half.png", ""), ("missing.png", "no such")
    for file, says in bad:
        fails("predict", "good", file, status=FAILED, says=[file, says])
    # A file that cannot be read does not silence the others.
    done = run("predict", "good", "missing.png", files[0], "half.png", files[1], status=FAILED)
    expect([r.split()[0] for r in done.stdout.splitlines()] == ["file", *files], done.stdout)
    for says in "missing.png", "half.png", "2 of 4 files have no class":
        expect(says in done.stderr, done.stderr)
    fails("predict", "good", files[0], "--top", "0", status=USAGE, says="--top")
    fails("predict", "good", status=USAGE, says="FILES is missing")

    make_data("other_classes", classes=("bar", "dot", "star"), train=1, test=1)
    fails("eval", "good", "--data", "other_classes", status=USAGE, says=["--data", "star"])
    make_data("larger", width=12, height=12, train=1, test=1)
    fails("eval", "good", "--data", "larger", status=USAGE, says=["--data", "1x12x12"])
    for command in ["eval"], ["predict"]:
        rest = files[:1] if command == ["predict"] else []
        fails(*command, "nowhere", *rest, status=FAILED, says="nowhere")
        fails(*command, "data", *rest, status=FAILED, says=["data", "best.safetensors"])
        fails(*command, "good/last.safetensors", *rest, status=FAILED, says="good/last.safetensors")
        fails(*command, "good/metrics.csv", *rest, status=FAILED, says="good/metrics.csv")


def test_hints():
    """What is allowed and hardly meant is said, in a line, and nothing else is."""
    def hints(*args):
        told = run("train", "vit", "--data", "data", *TINY, "--epochs", "1", "--run", "hints", "--overwrite", *args).stderr
        return [line for line in told.splitlines() if line.startswith("hint: ")]

    few = "hint: 6 images are few to validate on: accuracies of two runs that differ by less than 57 % are within noise"
    expect(hints() == [few], hints())
    expect(hints("--lr", "0")[0] == "hint: --lr 0: nothing will be learned", hints("--lr", "0"))
    expect("hint: --alpha 300: the paper's are" in hints("--alpha", "300")[0], hints("--alpha", "300"))
    expect(hints("--alpha", "300", "--passes", "1") == [few], "alpha is no matter in one pass")
    rising = hints("--optimizer", "sgd", "--lr", "30", "--epochs", "20", "--schedule", "constant")
    expect(len(rising) == 2 and "the training loss rises" in rising[1] and "a smaller --lr than 30" in rising[1], rising)
    expect(train("--lr", "0", "--alpha", "300", run_dir="quiet").stderr == "", "--quiet")


def test_bad_checkpoints():
    train("--epochs", "1", run_dir="sound")
    whole = open("sound/best.safetensors", "rb").read()
    size = struct.unpack("<Q", whole[:8])[0]
    header, data = json.loads(whole[8:8 + size]), whole[8 + size:]

    def with_metadata(**changes):
        changed = json.loads(json.dumps(header))
        for key, value in changes.items():
            changed["__metadata__"][key] = value
        text = json.dumps(changed).encode()
        return struct.pack("<Q", len(text)) + text + data

    def config(**changes):
        return with_metadata(config=json.dumps({**json.loads(header["__metadata__"]["config"]), **changes}))

    damaged = [whole[:n] for n in (0, 4, 8, 100, size, len(whole) - 1)]
    damaged += [whole + b"x", bytes(random.Random(2).randrange(256) for _ in range(9000)), b"\xff" * 5000]
    damaged += [with_metadata(model="lstm"), with_metadata(classes="[]"), with_metadata(classes="{"),
                with_metadata(mean="[]"), with_metadata(stddev="[1, 1]"), with_metadata(config="[]")]
    damaged += [config(**{key: value}) for key, value in (
        ("depth", 2), ("depth", 10**12), ("depth", -1), ("depth", None), ("dim", 10**12), ("dim", "x"), ("heads", 0),
        ("patch_size", 0), ("image_size", 10**9), ("classes", 4), ("channels", 0), ("dropout", 2))]
    for content in damaged:
        write("bad.safetensors", content)
        fails("predict", "bad.safetensors", "data/test/bar/000.png", status=FAILED, says="bad.safetensors")
        expect("json.exception" not in run("predict", "bad.safetensors", "data/test/bar/000.png", status=FAILED).stderr,
               "a library's own words")
    write("bad.safetensors", with_metadata())
    run("predict", "bad.safetensors", "data/test/bar/000.png")

    # A task that is none, or none at all, is named beside those that are.
    write("bad.safetensors", with_metadata(task="divination"))
    for command in ["eval", "bad.safetensors"], ["predict", "bad.safetensors", "data/test/bar/000.png"]:
        fails(*command, status=FAILED, says=["bad.safetensors", "task 'divination'", "expected image classification"])
    del header["__metadata__"]["task"]
    write("bad.safetensors", with_metadata())
    fails("eval", "bad.safetensors", status=FAILED, says=["bad.safetensors", "task 'none'", "or translate or", "or mlm"])


def test_full_disk():
    os.mkdir("small")
    mount = ["mount", "-t", "tmpfs", "-o", "size=24k", "tmpfs", "small"]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        raise Skip("a small file system cannot be mounted here")
    try:
        done = train(run_dir="small/run", status=FAILED)
        expect("No space left" in done.stderr and "small/run/" in done.stderr, done.stderr)
        expect(not [f for f in os.listdir("small/run") if "tmp" in f], os.listdir("small/run"))
    finally:
        subprocess.run(["umount", "small"], check=True)


def to_full_disk(*args, stream):
    """The command with standard output or error that cannot be written."""
    with open("/dev/full", "w") as full:
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, stream: full}
        return subprocess.run([TANDEM, *args], text=True, timeout=60, **pipes)


def test_streams_that_cannot_be_written():
    """Results that are lost are an error, what is told beside them is not."""
    write("texts.txt", "a text\n")
    for command in ["ops"], ["gradcheck", "relu"], ["--version"], ["--help"], ["train", "vit", "--help"]:
        done = to_full_disk(*command, stream="stdout")
        expect(done.returncode == FAILED and "tandem: standard output: " in done.stderr, (command, done))
    done = subprocess.run([TANDEM, "score", "bleu", "texts.txt"], stdin=open("texts.txt"), stdout=open("/dev/full", "w"),
                          stderr=subprocess.PIPE, text=True, timeout=60)
    expect(done.returncode == FAILED and "standard output" in done.stderr, done)
    options = ["train", "vit", "--data", "data", *TINY, "--epochs", "1"]
    done = to_full_disk(*options, "--run", "untold", stream="stderr")
    expect(done.returncode == 0 and os.path.exists("untold/best.safetensors"), done)
    closed = subprocess.run(["sh", "-c", 'exec "$@" 2>&-', "sh", TANDEM, *options, "--run", "closed"],
                            stdout=subprocess.PIPE, timeout=60)
    expect(closed.returncode == 0 and os.path.exists("closed/best.safetensors"), closed)
    expect(to_full_disk("eval", "nowhere", stream="stderr").returncode == FAILED, "an error is told nowhere")


def test_signals():
    """SIGHUP ends a training between two steps; a file that may not grow is an error."""
    process = subprocess.Popen([TANDEM, "train", "vit", "--data", "data", *TINY, "--epochs", "100000", "--run", "hung up"],
                               stderr=subprocess.PIPE, text=True)
    while "epoch" not in process.stderr.readline():
        pass
    process.send_signal(signal.SIGHUP)
    rest = process.communicate(timeout=60)[1]
    expect(process.returncode == 130 and "--resume" in rest, (process.returncode, rest))
    small = subprocess.run(["sh", "-c", 'ulimit -f 1; exec "$@"', "sh", TANDEM, "train", "vit", "--data", "data", *TINY,
                            "--epochs", "1", "--run", "limited", "--quiet"], capture_output=True, text=True, timeout=60)
    expect(small.returncode == FAILED and "File too large" in small.stderr and "limited/" in small.stderr, small)


def test_input_from_outside():
    fails("ops", "--config", "/dev/zero", status=USAGE, says=["/dev/zero", "1048576 bytes"])
    shown = run("eval", "a\x1b[31m\x07\x9b1mb", status=FAILED).stderr
    expect("a\\x1b[31m\\x07" in shown and not set(shown) & set("\x1b\x07\x9b"), repr(shown))


def test_tables():
    table = run("ops").stdout.splitlines()
    expect(any(row.startswith("softmax ") for row in table) and table[-1].endswith(" ops"), table[-1])
    checked = run("gradcheck", "gelu", "softmax").stdout.splitlines()
    expect(checked[-1] == "2 ops passed, 0 failed" and len(checked) == 2 + 2 * 3, checked)
    ends = {row.rstrip().rfind("  ") for row in checked[1:-1]}
    expect(len(ends) == 1, "the columns are not aligned")


run_cases(globals(), lambda: make_data("data"))
