"""The text tasks of the `tandem` command as a user meets them: tiny runs, what is made of them, and bad input.

  test_text_cli.py PATH_TO_TANDEM
"""

import csv
import json
import os
import random
import re
import shutil
import subprocess
import sys

from cases import expect, run_cases

TANDEM = os.path.abspath(sys.argv[1])
USAGE, FAILED = 2, 1
SMALL = ["--preset", "tiny", "--dim", "16", "--mlp-dim", "32", "--heads", "2", "--threads", "1", "--quiet"]
VOCAB = ["--vocab-size", "30"]
LETTERS = "abcdefgh"


def run(*args, status=0, text=None):
    done = subprocess.run([TANDEM, *args], capture_output=True, timeout=100, input=text if text is not None else b"")
    done.out, done.err = done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
    expect(done.returncode == status, f"exit status {done.returncode}, expected {status}, of {args}\n{done.out}{done.err}")
    return done


def fails(*args, says, status=FAILED, text=None):
    """One message, no output, no run folder."""
    done = run(*args, status=status, text=text)
    lines = [line for line in done.err.splitlines() if not line.startswith("Try `tandem ")]
    expect(len(lines) == 1 and lines[0].startswith("tandem: "), f"expected one message from {args}:\n{done.err}")
    for part in [says] if isinstance(says, str) else says:
        expect(part in lines[0], f"{args}: expected '{part}' in: {lines[0]}")
    expect(done.out == "", f"{args}: {done.out}")
    expect(not os.path.exists("none"), f"{args}: a run folder was made")


def write(path, content):
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    with open(path, "wb") as f:
        f.write(content.encode() if isinstance(content, str) else content)


def words(draw, low=1, high=5):
    return [draw.choice(LETTERS) * draw.randint(1, 2) for _ in range(draw.randint(low, high))]


def make(folder, line, counts=(60, 10, 10), ending=".tsv"):
    draw = random.Random(5)
    for split, count in zip(("train", "valid", "test"), counts):
        write(f"{folder}/{split}{ending}", "".join(line(draw, i) + "\n" for i in range(count)))


def pair(draw, _):
    source = words(draw)
    return " ".join(source) + "\t" + " ".join(reversed(source))


def labelled(draw, i):
    return ("first\t" if i % 2 else "second\t") + " ".join(["a" if i % 2 else "b"] + words(draw))


def scored(draw, i):
    return f"{i % 5}.5\t" + " ".join(words(draw) + ["a"] * (i % 5)) + "\t" + " ".join(words(draw))


def prose(draw, _):
    return " ".join(words(draw, 3, 9))


def make_data():
    make("pairs", pair)
    make("labels", labelled)
    make("scores", scored)
    make("prose", prose, ending=".txt")


def train(task, data, run_dir, *args, **kwargs):
    return run("train", task, "--data", data, *SMALL, *VOCAB, "--epochs", "2", "--run", run_dir, *args, **kwargs)


def train_fails(task, data, *args, **kwargs):
    fails("train", task, "--data", data, *SMALL, *VOCAB, "--epochs", "1", "--run", "none", *args, **kwargs)


def metrics(run_dir):
    with open(f"{run_dir}/metrics.csv") as f:
        return [{k: v for k, v in row.items() if k not in ("samples_per_s", "seconds")} for row in csv.DictReader(f)]


TASKS = {"translate": "pairs", "summarize": "pairs", "lm": "prose", "classify": "labels", "similarity": "scores",
         "mlm": "labels"}
COLUMNS = {"translate": ["test BLEU", "chrF"], "summarize": ["test ROUGE-1", "ROUGE-2", "ROUGE-L"],
           "lm": ["test bits/char", "perplexity"], "classify": ["test accuracy", "macro-F1", "Matthews"],
           "similarity": ["test Spearman", "Pearson"], "mlm": ["hidden words found", "perplexity"]}


def test_every_task_trains_compares_and_reports():
    make_data()
    for task, data in TASKS.items():
        done = train(task, data, task, "--compare")
        rows = [r for r in done.out.splitlines() if r]
        gap = f"R-Drop - plain: {COLUMNS[task][0]} "
        expect(rows[3].startswith(gap) and "95 % interval" in rows[3], f"{task}: {rows[3]}")
        for column in COLUMNS[task]:
            expect(column in rows[0], f"{task}: no {column} in {rows[0]}")
        expect(rows[1].startswith("plain ") and rows[2].startswith("R-Drop "), done.out)
        expect(len({len(r) for r in rows[:3]}) == 1, f"{task}: the columns are not aligned\n{done.out}")
        for part in "plain", "rdrop":
            for file in "best.safetensors", "vocab.model", "metrics.csv":
                expect(os.path.exists(f"{task}/{part}/{file}"), f"no {task}/{part}/{file}")
        plain, rdrop = metrics(f"{task}/plain"), metrics(f"{task}/rdrop")
        expect(len(plain) == len(rdrop) == 4, "expected two epochs of each")
        expect(float(plain[0]["kl"]) > 0 and plain[0]["loss"] == plain[0]["ce"] and float(rdrop[0]["kl"]) > 0, f"{task}: kl")
        evaluated = run("eval", f"{task}/rdrop").out.splitlines()
        expect(COLUMNS[task][0] in evaluated[0], evaluated)
        value = rows[2].split()[3]
        expect(value in evaluated[1].split(), f"{task}: eval says {evaluated[1]}, training said {value}")


def test_resume_and_settings():
    make_data()
    for task, data in TASKS.items():
        whole = f"{task}-whole"
        train(task, data, whole, "--epochs", "4", "--average", "2")
        train(task, data, f"{task}-part", "--epochs", "2", "--schedule", "constant", "--warmup", "0", "--average", "2")
        train(task, data, f"{task}-long", "--epochs", "4", "--schedule", "constant", "--warmup", "0", "--average", "2")
        run("train", task, "--resume", "--run", f"{task}-part", "--epochs", "4", "--quiet")
        expect(metrics(f"{task}-part") == metrics(f"{task}-long"), f"{task}: resumed, it differs from a whole run")
        run("train", task, "--config", f"{whole}/settings.toml", "--run", f"{task}-again", "--quiet")
        expect(metrics(f"{task}-again") == metrics(whole), f"{task}: settings.toml trains otherwise")


def test_plans_and_options_of_a_translation():
    make_data()
    train("translate", "pairs", "stacked")
    for plan in "sequential", "replay":
        train("translate", "pairs", plan, "--plan", plan)
        for a, b in zip(metrics("stacked"), metrics(plan)):
            for key in "loss", "ce", "kl":
                expect(not a[key] or abs(float(a[key]) - float(b[key])) < 1e-3, f"{plan}: {key} {a[key]} {b[key]}")
    seen = [metrics("stacked")]
    for name, args in {"copy": ["--copy"], "norm": ["--norm-first"], "positions": ["--positions", "learned"],
                       "layer_drop": ["--layer-drop", "0.5"], "word_dropout": ["--word-dropout", "0.3"],
                       "decoder": ["--decoder-dropout", "0.4"], "activation": ["--activation-dropout", "0.4"],
                       "limit": ["--limit", "30"], "unigram": ["--vocab-kind", "unigram", "--vocab-size", "25"]}.items():
        train("translate", "pairs", name, *args)
        expect(metrics(name) not in seen, f"{name}: the option changes nothing")
        seen.append(metrics(name))


def test_methods_beside_rdrop():
    make_data()
    seen = []
    for method, args in {"plain": [], "rdrop": [], "mixup": [], "manifold-mixup": ["--mixup-alpha", "1"], "fgm": [],
                         "multisample": ["--passes", "4"]}.items():
        done = train("classify", "labels", method, "--method", method, *args)
        expect(("R-Drop" if method == "rdrop" else method) + " " in done.out, done.out)
        expect(metrics(method) not in seen, f"{method} trains like another")
        seen.append(metrics(method))
        train("classify", "labels", method + "-again", "--method", method, *args, "--epochs", "1")
        run("train", "classify", "--resume", "--run", method + "-again", "--epochs", "2", "--quiet")
        expect(len(metrics(method + "-again")) == len(metrics(method)), f"{method} does not go on")
    train("classify", "labels", "plain-rdrop", "--passes", "1", "--alpha", "0")
    expect(metrics("plain-rdrop") == seen[0], "--passes 1 is not plain")
    train("classify", "labels", "mixup-2", "--method", "mixup", "--passes", "2", "--alpha", "1")
    expect(float(metrics("mixup-2")[0]["kl"]) > 0, "passes of mixed samples are not compared")
    for method in "plain", "fgm":
        train_fails("classify", "labels", "--method", method, "--passes", "2", status=USAGE,
                    says=f"--method {method}: expected --passes 1, got 2")
    train_fails("classify", "labels", "--method", "multisample", "--alpha", "1", status=USAGE,
                says="expected --alpha 0, got 1")
    train_fails("classify", "labels", "--method", "fgm", "--compare", status=USAGE, says="--compare: expected --method rdrop")
    train_fails("classify", "labels", "--method", "magic", status=USAGE, says=["--method", "magic"])
    train_fails("classify", "labels", "--mixup-alpha", "0", status=USAGE, says="--mixup-alpha")


def test_sentence_embeddings():
    make_data()
    seen = []
    for name, args in {"bi": [], "cross": ["--encoder", "cross"], "simcse": ["--method", "simcse"],
                       "supervised": ["--method", "simcse-supervised", "--positive", "3"]}.items():
        train("similarity", "scores", name, *args)
        expect(metrics(name) not in seen, f"{name} trains like another")
        seen.append(metrics(name))
        answers = run("similarity", name, "--quiet", text=b"a b\ta b\na b\tc d e\n").out.split()
        expect(len(answers) == 2, str(answers))
        if name != "cross":
            expect(float(answers[0]) > float(answers[1]), f"{name}: a text is not most like itself: {answers}")
    expect(answers[0] == "1.0000", f"expected a cosine: {answers}")
    train("similarity", "scores", "simcse-again", "--method", "simcse", "--epochs", "1")
    run("train", "similarity", "--resume", "--run", "simcse-again", "--epochs", "2", "--quiet")
    expect(len(metrics("simcse-again")) == len(metrics("simcse")), "simcse does not go on")
    for method, passes in ("simcse", 2), ("simcse-supervised", 1):
        train_fails("similarity", "scores", "--method", method, "--passes", "3", status=USAGE,
                    says=f"--method {method}: expected --passes {passes}, got 3")
    train_fails("similarity", "scores", "--method", "simcse", "--encoder", "cross", status=USAGE, says="expected --encoder bi")
    train_fails("similarity", "scores", "--method", "simcse", "--dropout", "0", status=USAGE, says="dropout")
    train_fails("similarity", "scores", "--method", "simcse-supervised", "--positive", "9", status=USAGE, says="--positive")
    train_fails("similarity", "scores", "--temperature", "0", status=USAGE, says="--temperature")


def test_weights_to_start_from():
    make_data()
    train("mlm", "labels", "mlm", "--epochs", "3")
    expect("hidden words found" in run("eval", "mlm").out, "eval does not know the task")
    start = ["--data", "scores", "--threads", "1", "--quiet", "--epochs", "2"]
    run("train", "similarity", *start, "--run", "from-mlm", "--init", "mlm")
    run("train", "similarity", "--resume", "--run", "from-mlm", "--epochs", "3", "--quiet")
    expect(open("mlm/vocab.model", "rb").read() == open("from-mlm/vocab.model", "rb").read(), "another vocabulary")
    run("train", "classify", "--data", "labels", *start[2:], "--run", "from-both", "--init", "from-mlm")
    # A learning rate of 0 shows what is started from: the weights of the other run, not of the seed.
    again = [run("train", "similarity", *start, "--run", f"still-{seed}", "--init", "mlm", "--lr", "0", "--seed", seed).out
             for seed in ("1", "2")]
    expect(again[0].splitlines()[1].split()[3] == again[1].splitlines()[1].split()[3], "\n".join(again))
    write("plain/train.txt", "a b c\n\nb c\n" * 20)
    write("plain/valid.txt", "a c\n")
    write("plain/test.txt", "a c\n")
    run("train", "mlm", "--data", "plain", *SMALL, "--vocab-size", "12", "--epochs", "1", "--run", "plain-mlm")
    write("plain/valid.txt", "\n")
    train_fails("mlm", "plain", says=["valid.txt", "no texts"])
    train_fails("mlm", "labels", "--mask-rate", "0", status=USAGE, says="--mask-rate")
    train("translate", "pairs", "tr")
    fails("train", "classify", "--data", "labels", "--run", "none", "--init", "tr", says=["'translate'", "mlm"])
    fails("train", "classify", "--data", "labels", "--run", "none", "--init", "nowhere", status=USAGE, says="nowhere: no such file or folder")
    fails("train", "classify", "--data", "labels", "--run", "none", "--init", "mlm", "--dim", "8", status=USAGE, says="--dim")


def test_a_run_to_start_from():
    """Its weights are those that are trained: at a rate of 0, validation says what it said of them."""
    make_data()
    for task, data, args in ("lm", "prose", []), ("translate", "pairs", ["--copy"]), ("summarize", "pairs", []):
        train(task, data, task, *args)
        known = [row["ce"] for row in metrics(task) if row["split"] == "valid"]  # the best epoch's among them
        for seed in "1", "2":
            again = f"{task}-{seed}"
            run("train", task, "--data", data, "--init", task, "--lr", "0", "--seed", seed, "--epochs", "1", "--threads", "1",
                "--quiet", "--run", again)
            expect([row["ce"] for row in metrics(again) if row["split"] == "valid"][0] in known, f"{again}: other weights")
        expect(run("eval", f"{task}-1").out == run("eval", task).out, f"{task}: other scores")
        fails("train", task, "--data", data, "--run", "none", "--init", task, "--dim", "8", status=USAGE, says="--dim")
    fails("train", "lm", "--data", "prose", "--run", "none", "--init", "lm", "--cutoffs", "10,20", status=USAGE, says="--cutoffs")


def test_two_files_are_as_good_as_one():
    make_data()
    for split in "train", "valid", "test":
        rows = [line.split("\t") for line in open(f"pairs/{split}.tsv").read().splitlines()]
        write(f"two/{split}.source", "".join(a + "\r\n" for a, _ in rows))
        write(f"two/{split}.target", "\ufeff" + "".join(b + "\n" for _, b in rows))
    train("translate", "pairs", "one")
    train("translate", "two", "another")
    expect(metrics("one") == metrics("another"), "two files train otherwise")
    write("two/train.target", "one line\n")
    train_fails("translate", "two", says=["two/train.source has 60 lines", "two/train.target has 1"])


def test_models_at_work():
    make_data()
    train("translate", "pairs", "tr", "--epochs", "3")
    lines = [line.split("\t")[0] for line in open("pairs/test.tsv").read().splitlines()]
    done = run("translate", "tr", "--threads", "1", text=("\n".join(lines) + "\n").encode())
    expect(len(done.out.splitlines()) == len(lines) and "tokens/s" in done.err, done.out + done.err)
    # One after the other, in another order, with an empty line: the same translations.
    alone = run("translate", "tr", "--quiet", text=(lines[3] + "\n\n" + lines[0] + "\n").encode()).out.splitlines()
    expect(alone == [done.out.splitlines()[3], "", done.out.splitlines()[0]], f"{alone}\n{done.out}")
    expect(run("translate", "tr", "--quiet", text=("\n".join(lines) + "\n").encode()).err == "", "--quiet")
    with open("tr/test.txt") as f:
        expect(f.read() == done.out, "the test's translations are others")
    fails("translate", "tr", text=b"\xff\n", says="standard input:1: byte 1")
    fails("translate", "tr", text=b"a\na\0b\n", says="standard input:2: byte 2")
    blanks = run("translate", "tr", "--quiet", text=("\ufeff" + lines[3] + "\r\n   \n\t\n").encode()).out.splitlines()
    expect(blanks == [done.out.splitlines()[3], "", ""], blanks)
    fails("translate", "tr", text=b"a\n" + b"a b " * 500 + b"\n", says=["standard input:2:", "takes 255", "--long cut"])
    cut = run("translate", "tr", "--long", "cut", "--max-length", "5", text=b"a b " * 500 + b"\n")
    expect("1 lines were cut" in cut.err and cut.out.count("\n") == 1, cut.err)
    fails("translate", "tr", text=b"", says="no lines")
    fails("translate", "tr", "--beam", "0", status=USAGE, text=b"a\n", says="--beam")
    fails("summarize", "tr", text=b"a\n", says=["task 'translate'", "summarize"])
    fails("translate", "nowhere", text=b"a\n", says="nowhere")

    train("lm", "prose", "lm")
    text = run("generate", "lm", "--prompt", "a b", "--length", "20", "--seed", "3")
    expect(text.out.startswith("a b") and "tokens/s" in text.err, text.out)
    expect(text.out == run("generate", "lm", "--prompt", "a b", "--length", "20", "--seed", "3").out, "another text")
    expect(text.out != run("generate", "lm", "--prompt", "a b", "--length", "20", "--seed", "4").out, "the same text")
    likeliest = [run("generate", "lm", "--length", "300", *args).out for args in (["--temperature", "0"], ["--top-k", "1"])]
    expect(likeliest[0] == likeliest[1], "top-k 1 is not the likeliest")  # and longer than the positions
    fails("generate", "lm", "--top-p", "0", status=USAGE, says="--top-p")
    expect(run("generate", "lm", "--prompt", "a b\nc", "--length", "5").out.startswith("a b\nc"), "the end of a prompt's line")
    longer = run("generate", "lm", "--prompt", "a b " * 100, "--length", "5", "--temperature", "0")
    expect("the text goes on from the last 64" in longer.err, longer.err)

    train("lm", "prose", "adaptive", "--cutoffs", "10,20", "--adaptive-factor", "2")
    expect(metrics("adaptive") != metrics("lm"), "an adaptive softmax changes nothing")
    expect(run("generate", "adaptive", "--prompt", "a", "--length", "5").out.startswith("a"), "generate")
    run("train", "lm", "--resume", "--run", "adaptive", "--epochs", "3", "--quiet")
    train_fails("lm", "prose", "--cutoffs", "20,10", status=USAGE, says="cutoffs")

    train("classify", "labels", "cl", "--epochs", "10", "--lr", "0.01")
    done = run("classify", "cl", "--probabilities", text=b"a c d\nb c d\n")
    rows = [row.split("\t") for row in done.out.splitlines()]
    expect([r[0] for r in rows] == ["first", "second"] and all(0.5 < float(r[1]) <= 1 for r in rows), done.out)
    lines = run("classify", "cl", "--quiet", text=b"a c d\n\n \t\nb c d\n").out.splitlines()
    expect(lines == ["first", "", "", "second"], f"a blank line gives a blank line: {lines}")
    expect(run("classify", "cl", "--quiet", text=b"\n\n").out == "\n\n", "only blank lines")
    long = b"a c d\n" + b"a b " * 300 + b"\nb c d\n"
    fails("classify", "cl", text=long, says=["standard input:2: 601 tokens", "--long cut"])
    cut, skipped = (run("classify", "cl", "--quiet", "--long", how, text=long) for how in ("cut", "skip"))
    expect("1 lines were cut to" in cut.err and len(cut.out.split()) == 3, cut.err)
    expect("1 lines were skipped" in skipped.err and skipped.out == "first\n\nsecond\n", skipped.out + skipped.err)
    # It was trained on a text a line: a label or a second text in front of it was never seen.
    fails("classify", "cl", text=b"a c d\nfirst\ta c d\n", says=["standard input:2", "one text", "2"])
    expect(run("classify", "cl", text=b"\xef\xbb\xbfa c d\r\nb c d").out.splitlines() == [r[0] for r in rows], "BOM, CRLF")
    shutil.copytree("labels", "two-texts")
    for split in "train", "valid", "test":
        rows = open(f"labels/{split}.tsv").read().splitlines()
        write(f"two-texts/{split}.tsv", "".join(f"{row}\tb d\n" for row in rows))
    train("classify", "two-texts", "cl2", "--epochs", "1")
    run("classify", "cl2", text=b"a c\tb d\n")
    for wrong in b"a c\n", b"a\tb\tc\n", b"a\t \n":
        fails("classify", "cl2", text=wrong, says=["standard input:1", "two texts"])
    fails("classify", "cl2", text=b"a c " * 90 + b"\t" + b"b d " * 90 + b"\n", says=["standard input:1: 362 tokens"])
    train("similarity", "scores", "si")
    # A norm over one number is constant, and so is what this model says: no reason to end a training.
    one = run("train", "similarity", "--data", "scores", *[{"16": "1", "2": "1"}.get(x, x) for x in SMALL], *VOCAB, "--epochs",
              "2", "--run", "same").out
    expect(re.search(r"0\.0000 +0\.0000", one), one)
    answers = run("similarity", "si", text=b"a b\tc d\n\na\tb\n").out.splitlines()
    expect(len(answers) == 3 and answers[1] == "" and answers[0] and answers[2], answers)
    fails("similarity", "si", text=b"no tab\n", says="standard input:1")

    # A vocabulary of another run, or none.
    shutil.copytree("tr", "mixed")
    shutil.copy("lm/vocab.model", "mixed/vocab.model")
    fails("translate", "mixed", text=b"a\n", says=["mixed/vocab.model", "another run"])
    os.remove("mixed/vocab.model")
    fails("translate", "mixed", text=b"a\n", says="mixed/vocab.model")
    write("mixed/vocab.model", b"junk")
    fails("translate", "mixed", text=b"a\n", says="mixed/vocab.model")


def test_bad_data():
    make_data()

    def bad(task, data, file, content, says, status=FAILED, args=()):
        shutil.copytree(data, "bad")
        if content is None:
            os.remove("bad/" + file)
        else:
            write("bad/" + file, content)
        train_fails(task, "bad", *args, says=says, status=status)
        shutil.rmtree("bad")

    good = open("pairs/train.tsv").read()
    bad("translate", "pairs", "train.tsv", None, "bad/train.tsv")
    bad("translate", "pairs", "valid.tsv", None, "bad/valid.tsv")
    bad("translate", "pairs", "valid.tsv", "", "bad/valid.tsv")
    bad("translate", "pairs", "test.tsv", "\t\n", "bad/test.tsv")
    bad("translate", "pairs", "train.tsv", good + "no tab\n", "bad/train.tsv:61")
    bad("translate", "pairs", "train.tsv", good + "a\tb\tc\n", "bad/train.tsv:61")
    bad("translate", "pairs", "train.tsv", good.encode() + b"a\t\xc3\x28\n", "bad/train.tsv:61")
    bad("translate", "pairs", "train.tsv", good.encode() + b"a\0\tb\n", "bad/train.tsv:61")
    bad("translate", "pairs", "train.tsv", good, ["--vocab-size: expected at least", "characters of this text, got 8"],
        status=USAGE, args=["--vocab-size", "8"])
    bad("translate", "pairs", "train.tsv", good, ["--limit", "60"], status=USAGE, args=["--limit", "61"])
    labels = open("labels/train.tsv").read()
    bad("classify", "labels", "test.tsv", "third\ta b\n", ["bad/test.tsv:1", "third", "is it a header?"])
    bad("classify", "labels", "train.tsv", "first\ta b\nfirst\tc\n", ["bad/train.tsv", "at least 2 classes"])
    bad("classify", "labels", "train.tsv", labels + "\tno label\n", "bad/train.tsv:61")
    bad("classify", "labels", "train.tsv", labels + "first\ta\tb\n", "bad/train.tsv:61")
    bad("classify", "labels", "valid.tsv", "first\ta\tb\n", ["bad/valid.tsv", "in pairs"])
    bad("similarity", "scores", "train.tsv", "x\ta\tb\n", ["bad/train.tsv:1", "'x'; is it a header?"])
    bad("similarity", "scores", "train.tsv", "nan\ta\tb\n", "bad/train.tsv:1")
    bad("similarity", "scores", "train.tsv", "1\ta b c d e f g h\tb\n1\tc\td\n", "all scores are 1", args=["--vocab-size", "20"])
    for split in "valid", "test":  # before the first epoch, not after the last
        bad("similarity", "scores", f"{split}.tsv", "1\ta\tb\n1\tc\td\n", f"bad/{split}.tsv: all scores are 1")
        bad("similarity", "scores", f"{split}.tsv", "1\ta\tb\n", f"bad/{split}.tsv: all scores are 1")
    bad("lm", "prose", "train.txt", b"\x80", "bad/train.txt:1")
    bad("lm", "prose", "valid.txt", "", "bad/valid.txt")
    train_fails("translate", "nonsense", status=USAGE, says=["--data", "synopses", "'nonsense'"])
    train_fails("lm", "prose", "--block", "1000", status=USAGE, says=["--block", "256"])
    train_fails("translate", "pairs", "--heads", "3", status=USAGE,
                says="--heads 3 does not divide dim 16, expected 1, 2, 4 or 8")
    train_fails("lm", "prose", "--cutoffs", "10", "--adaptive-factor", "99", status=USAGE, says="--adaptive-factor: 99 leaves")
    write("junk.model", b"junk")
    train_fails("translate", "pairs", "--vocab", "junk.model", says="junk.model")

    # Pairs with an empty side are left out, and counted.
    write("gaps/train.tsv", good + "a\t\n\tb\n")
    for split in "valid", "test":
        shutil.copy(f"pairs/{split}.tsv", f"gaps/{split}.tsv")
    done = run("train", "translate", "--data", "gaps", *[a for a in SMALL if a != "--quiet"], *VOCAB, "--epochs", "1", "--run", "gaps-run")
    expect("2 pairs with an empty side were left out" in done.err and "60 training" in done.err, done.err)
    # Long ones are cut or left out, and counted.
    write("gaps/train.tsv", good + "a b " * 300 + "\tb\n")
    long_labels = open("labels/train.tsv").read() + "first\t" + "a b " * 300 + "\n"
    shutil.copytree("labels", "long-labels")
    write("long-labels/train.tsv", long_labels)
    told = [a for a in SMALL if a != "--quiet"]
    for how, says in ("cut", "1 training texts were cut"), ("skip", "1 training texts of more than"):
        for task in "classify", "mlm":
            done = run("train", task, "--data", "long-labels", *told, *VOCAB, "--epochs", "1", "--long", how, "--run",
                       f"{task}-{how}")
            expect(says in done.err, done.err)
    for task, data in ("classify", "long-labels"), ("translate", "gaps"):
        train_fails(task, data, "--long", "reject", says=["--long reject: a text of 601 tokens", "'a b a b"])
    for how, says in ("cut", "1 training pairs were cut"), ("skip", "1 training pairs of more than 256"):
        done = run("train", "translate", "--data", "gaps", *[a for a in SMALL if a != "--quiet"], *VOCAB, "--epochs", "1",
                   "--long", how, "--run", "gaps-" + how)
        expect(says in done.err, done.err)


def test_vocabularies():
    make_data()
    out = run("data", "vocab", "pairs/train.tsv", "--out", "v.model", "--size", "30", "--column", "1").out.splitlines()
    expect(out[1].split()[:3] == ["bpe", "30", "60"], out)
    train("translate", "pairs", "given", "--vocab", "v.model")
    expect(open("v.model", "rb").read() == open("given/vocab.model", "rb").read(), "not the given vocabulary")
    fails("data", "vocab", "pairs/train.tsv", "--out", "v.model", status=USAGE, says="v.model")
    fails("data", "vocab", "pairs/train.tsv", "--out", "w.model", "--column", "3", says="pairs/train.tsv:1")
    fails("data", "vocab", "missing.txt", "--out", "w.model", says="missing.txt")
    expect(not os.path.exists("w.model"), "a file was left")
    # A text that gives fewer pieces than asked gives all that it has, and that is said.
    done = run("data", "vocab", "pairs/train.tsv", "--out", "all.model", "--size", "9999")
    pieces = done.out.splitlines()[1].split()[1]
    expect(int(pieces) < 9999 and f"hint: --size 9999: this text gives {pieces} pieces" in done.err, done.out + done.err)
    told = [a for a in SMALL if a != "--quiet"]
    for name, size in ("too-large", "9999"), ("largest", None):
        size = size or re.search(r"hint: --vocab-size 9999: the training text gives (\d+) pieces", done.err)[1]
        done = run("train", "translate", "--data", "pairs", *told, "--vocab-size", size, "--epochs", "1", "--run", name)
    expect("hint: --vocab-size" not in done.err and metrics("largest") == metrics("too-large"), done.err)
    run("train", "translate", "--resume", "--run", "too-large", "--epochs", "2", "--quiet")


def test_published_vocabularies():
    """Their files make a run as a vocabulary of our own does, and it is whole without them."""
    make_data()
    letters = [chr(c) for c in [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x144)]]
    bert = ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefgh"] + [f"##{c}" for c in "abcdefgh"]
    pieces = {"gpt2": letters + ["\u0120a", "<|endoftext|>"], "bart": ["<s>", "<pad>", "</s>", "<unk>"] + letters + ["\u0120a", "<mask>"]}
    write("bert/vocab.txt", "".join(f"{piece}\n" for piece in bert))
    for name, list_of in pieces.items():
        write(f"{name}/vocab.json", json.dumps({piece: i for i, piece in enumerate(list_of)}))
        write(f"{name}/merges.txt", "#version: 0.2\n\u0120 a\n")
    asked = run("data", "ids", "bert", text=b"A b[MASK]\n\nabz\n")
    expect(asked.out == "6 7 5\n\n2\n" and "3 lines" in asked.err, asked.out)
    expect(run("data", "ids", "bart", text=b"a <mask>\n").out == f"{4 + letters.index('a')} {len(pieces['bart']) - 1}\n", "bart's ids")
    for task, vocabulary in ("lm", "gpt2"), ("mlm", "bert"), ("classify", "bart/vocab.json"), ("similarity", "bert/vocab.txt"), \
            ("translate", "bart"):
        name = f"{task}-published"
        run("train", task, "--data", TASKS[task], *SMALL, "--vocab", vocabulary, "--epochs", "1", "--run", name)
        shutil.move(vocabulary.split("/")[0], "away")
        run("train", task, "--resume", "--run", name, "--epochs", "2", "--quiet")
        expect(run("eval", name).out.splitlines()[0].split() != [], name)
        if task == "lm":
            run("generate", name, "--prompt", "a b", "--length", "5")
        elif task != "mlm":
            answer = run(task, name, "--long", "cut", text=b"a b\tc d\n" if task == "similarity" else b"a b\n").out
            expect(answer.count("\n") == 1, answer)
        shutil.move("away", vocabulary.split("/")[0])
    run("train", "classify", "--data", "labels", "--threads", "1", "--init", "mlm-published", "--epochs", "1", "--quiet", "--run", "from-bert")
    expect(open("from-bert/vocab.model", "rb").read() == open("mlm-published/vocab.model", "rb").read(), "another vocabulary")
    train_fails("classify", "labels", "--vocab", "gpt2", says="padding", status=USAGE)
    train_fails("mlm", "labels", "--vocab", "missing", says="expected a file or a folder, got 'missing'", status=USAGE)
    write("unigram/tokenizer.json", json.dumps({"model": {"type": "Unigram", "vocab": []}}))
    train_fails("mlm", "labels", "--vocab", "unigram", says=["unigram", "expected WordPiece or BPE, got 'Unigram'"],
                status=USAGE)


def test_a_run_of_another_task_does_not_go_on():
    make_data()
    train("classify", "labels", "cl", "--epochs", "1")
    train("classify", "labels", "both", "--epochs", "1", "--compare")
    for name in "cl", "both":
        fails("train", "vit", "--resume", "--run", name, "--quiet", status=USAGE,
              says=f"--resume: '{name}' is a run of the task 'classify', expected one of 'vit'")
    fails("train", "classify", "--resume", "--run", "cl", "--dim", "32", status=USAGE, says="--dim: the run has")


def test_runs_are_evaluated_from_anywhere():
    make_data()
    run("data", "vocab", "labels/train.tsv", "--out", "given.model", "--size", "30", "--column", "2")
    train("classify", "labels", "runs/cl", "--vocab", "given.model")
    train("mlm", "labels", "runs/mlm", "--epochs", "1")
    run("train", "classify", "--data", "labels", "--threads", "1", "--quiet", "--epochs", "1", "--run", "runs/from-mlm",
        "--init", "runs/mlm")
    expected = {name: run("eval", f"runs/{name}").out for name in ("cl", "from-mlm")}
    scores = json.load(open("runs/cl/scores.json"))
    expect(scores["task"] == "classify" and f"{scores['scores']['test accuracy']:.2f}%" in expected["cl"], scores)
    # What it started from is not needed any more.
    os.remove("given.model"), shutil.rmtree("runs/mlm")
    os.mkdir("elsewhere"), os.chdir("elsewhere")
    for name, table in expected.items():
        expect(run("eval", f"../runs/{name}").out == table, f"{name}: other scores")
    # The settings of older runs, without a manifest, have paths as they were given.
    settings = open("../runs/cl/settings.toml").read()
    at = os.path.dirname(os.getcwd())
    expect(f'data = "{at}/labels"' in settings, settings)
    write("../runs/cl/settings.toml", settings.replace(at + "/", ""))
    os.remove("../runs/cl/manifest.sha256")
    expect(run("eval", "../runs/cl").out == expected["cl"], "a relative path is not found")
    found = json.loads(run("eval", "../runs/cl", "--json").out)
    expect(found["scores"] == scores["scores"] and found["task"] == "classify", found)


def test_other_data_has_the_classes_of_the_run():
    """In eval, by their names: a run's numbers are those of its own training."""
    make_data()
    train("classify", "labels", "cl", "--epochs", "10", "--lr", "0.01")
    make("sentences", sentence, (60, 10, 10), ".conll")
    run("train", "tag", "--data", "sentences", *SMALL, *VOCAB, "--epochs", "1", "--run", "tags")
    for split in "train", "valid", "test":
        rows = open(f"labels/{split}.tsv").read().splitlines(keepends=True)
        write(f"one-class/{split}.tsv", "".join(row for row in rows if row.startswith("second")))
        write(f"strange/{split}.tsv", "".join(row.replace("first", "third") for row in rows))
        text = open(f"sentences/{split}.conll").read()
        write(f"few-tags/{split}.conll", text.replace("I-X", "O"))
        write(f"strange-tags/{split}.conll", text.replace("-X", "-Y"))
    accuracy = json.loads(run("eval", "cl", "--data", "one-class", "--json").out)["scores"]["test accuracy"]
    expect(accuracy > 50, f"the classes are mixed up: {accuracy}")
    fails("eval", "cl", "--data", "strange", says="label 'third' is none of the 2 that training has")
    expect("word accuracy" in run("eval", "tags", "--data", "few-tags").out, "tags")
    fails("eval", "tags", "--data", "strange-tags", says="tag 'B-Y' is none of the 3 that training has")


def model_of(run_dir):
    """The metadata of a run's weights."""
    with open(f"{run_dir}/best.safetensors", "rb") as f:
        return json.loads(f.read(int.from_bytes(f.read(8), "little")))["__metadata__"]


def test_positions_that_training_reached():
    """What is predicted reads no more of a text than training and test did."""
    make_data()
    train("lm", "prose", "lm", "--block", "16", "--epochs", "1")
    expect(json.loads(model_of("lm")["config"])["max_positions"] == 16, model_of("lm"))
    run("generate", "lm", "--length", "40")
    run("eval", "lm")
    run("train", "lm", "--resume", "--run", "lm", "--epochs", "2", "--quiet")
    write("long/train.tsv", "".join(f"{'first' if i % 2 else 'second'}\t{'a b ' * 20}\n" for i in range(20)))
    for split in "valid", "test":
        shutil.copy("long/train.tsv", f"long/{split}.tsv")
    train("classify", "long", "whole", "--epochs", "1")
    train("classify", "long", "new", "--epochs", "1", "--max-tokens", "12")
    expect(json.loads(model_of("new")["config"])["max_positions"] == 12, model_of("new"))
    run("train", "classify", "--data", "long", "--threads", "1", "--quiet", "--epochs", "1", "--run", "old", "--init", "whole",
        "--max-tokens", "12")
    expect(json.loads(model_of("old")["config"])["max_positions"] > 12, "the positions of what it began with")
    for name in "new", "old":
        run("eval", name)
        done = run("classify", name, "--long", "cut", text=b"a b " * 20 + b"\n")
        expect("1 lines were cut to 10 tokens" in done.err, f"{name}: {done.err}")
        texts = [run("classify", name, "--long", "cut", "--probabilities", text=b"a b " * 20 + rest + b"\n").out
                 for rest in (b"", b"c d " * 9)]
        expect(texts[0] == texts[1], f"{name}: it reads what training did not: {texts}")


def test_hints_about_tables():
    make_data()
    told = [a for a in SMALL if a != "--quiet"]

    def hints(task, data, first_line=None, swap=False):
        shutil.copytree(data, "table")
        rows = open(f"{data}/train.tsv").read().splitlines()
        if swap:
            rows = ["\t".join(reversed(row.split("\t"))) for row in rows]
            for split in "valid", "test":
                write(f"table/{split}.tsv", "\n".join(rows) + "\n")
        write("table/train.tsv", "\n".join(([first_line] if first_line else []) + rows) + "\n")
        done = run("train", task, "--data", "table", *told, "--vocab-size", "40", "--epochs", "1", "--run", "h", "--overwrite")
        shutil.rmtree("table")
        return [line for line in done.err.splitlines() if line.startswith("hint: ") and "table/" in line]

    expect(hints("classify", "labels") == hints("translate", "pairs") == [], "a hint where all is well")
    expect("train.tsv:1 looks like a header (label, text)" in hints("classify", "labels", "label\ttext")[0], "label, text")
    expect("train:1 looks like a header (Source, Target)" in hints("translate", "pairs", "Source\tTarget")[0], "source, target")
    swapped = hints("classify", "labels", swap=True)
    expect(len(swapped) == 1 and "are the columns swapped" in swapped[0], swapped)


def test_scores():
    write("scores/references", "the cat sat on the mat\na dog ran over there\nUn caffè, per favore.\n")
    write("scores/others", "a cat sat on the mat\nthe dog ran over there\nUn caffè, prego.\n")
    write("scores/test.tsv", "one two three\tthe cat sat on the mat\nfour five six\ta dog ran over there\n"
                             "seven\tUn caffè, per favore.\n")
    write("scores/train.tsv", "Two, three and one.\tx\nfour five six\ty\n")
    hypotheses = "the cat sat on a mat\na dog ran over there\nUn caffè per favore.\n".encode()
    # As sacreBLEU and rouge-score have it.
    one = run("score", "bleu", "scores/references", text=hypotheses).out.splitlines()
    expect(one[0].startswith("BLEU 61.65 ") and "|tok:13a|" in one[1] and "nrefs:1" in one[1], one)
    two = run("score", "bleu", "scores/references", "scores/others", text=hypotheses).out.splitlines()
    expect(two[0].startswith("BLEU 66.69 ") and "nrefs:2" in two[1] and "version:tandem-" in two[1], two)
    found = json.loads(run("score", "bleu", "scores/references", "--json", text=hypotheses).out)
    expect(round(found["scores"]["BLEU"], 2) == 61.65 and found["signature"] == one[1], found)
    found = json.loads(run("score", "rouge", "scores/references", "--json", text=hypotheses).out)
    expect({k: round(v, 2) for k, v in found["scores"].items()} == {"ROUGE-1": 94.44, "ROUGE-2": 86.67, "ROUGE-L": 94.44}, found)
    found = json.loads(run("score", "chrf", "scores/references", "--json", "--word-order", "2", text=hypotheses).out)
    expect(round(found["scores"]["chrF2++"], 2) == 80.62, found)
    expect("chrF2 80.53\n" in run("score", "chrf", "scores/references", text=hypotheses).out, "chrF")
    expect("chrF2++ 80.62\n" in run("score", "chrf", "scores/references", "--word-order", "2", text=hypotheses).out, "chrF++")
    expect("ROUGE-1 94.44  ROUGE-2 86.67  ROUGE-L 94.44" in run("score", "rouge", "scores/references", text=hypotheses).out, "ROUGE")
    table = run("score", "bleu", "scores/test.tsv", "--training", "scores/train.tsv", text=hypotheses).out.splitlines()
    expect(table[0] == one[0], "a .tsv's references are its second column")
    rows = [line.split() for line in table[3:]]
    expect([row[-2] for row in rows] == ["1", "0", "2"] and rows[1][-1] == "-", table)
    fails("score", "bleu", "scores/references", text=b"one\n", says=["1 hypotheses", "scores/references has 3 references"])
    fails("score", "rouge", "scores/references", text=b"", says="standard input: no lines")
    fails("score", "bleu", "scores/nowhere", text=hypotheses, says="scores/nowhere")
    fails("score", "bleu", "scores/references", "--training", "scores/train.tsv", status=USAGE, text=hypotheses,
          says="--training: expected --sources too")
    fails("score", "bleu", "scores/references", "--training", "scores/train.tsv", "--sources", "scores/train.tsv",
          text=hypotheses, says=["3 hypotheses", "scores/train.tsv has 2 sources"])
    fails("score", status=USAGE, says="expected a command")
    fails("score", "bleu", status=USAGE, says="REFERENCES is missing")


def several(draw, _):
    text = words(draw, 2, 5)
    return "|".join(sorted({w[0] for w in text} & set("abc"))) + "|\t" + " ".join(text)


def test_multi_label():
    make("several", several, (150, 30, 30))
    args = ["train", "classify", "--data", "several", "--multi-label", *SMALL, *VOCAB, "--lr", "1e-2", "--pooling", "mean"]
    run(*args, "--run", "sets", "--epochs", "8", "--batch-size", "16", "--passes", "2", "--alpha", "0.5")
    scores = json.loads(run("eval", "sets", "--json").out)["scores"]
    expect(list(scores) == ["micro-F1", "macro-F1", "mAP", "exact match"] and scores["micro-F1"] > 80, scores)
    told = run("classify", "sets", "--probabilities", text=b"aa b\nff\n").out.splitlines()
    expect(len(told) == 2 and all(re.fullmatch(r"([abc](\|[abc])*|\|)\t([\d.]+(\|[\d.]+)*)?", t) for t in told), told)
    run(*args, "--run", "set-parts", "--epochs", "1", "--plan", "sequential", "--accumulate", "2", "--compare")
    shutil.copytree("several", "strange", dirs_exist_ok=True)
    write("strange/test.tsv", "a|z\taa b\nb\tb\n")
    fails("train", "classify", "--data", "strange", "--multi-label", *SMALL, *VOCAB, "--run", "none",
          says="strange/test.tsv: label 'z' is none of the 3 that training has")
    fails(*args, "--run", "none", "--class-weights", "balanced", status=USAGE, says="expected --method rdrop and no --class-weights")


def sentence(draw, _):
    """Words; those of one letter twice are marked, with those that follow them."""
    lines = []
    for word in words(draw, 3, 9):
        inside = lines and lines[-1].endswith("-X") and word[0] < "d"
        lines.append(f"{word} {'B-X' if len(word) == 2 and not inside else 'I-X' if inside else 'O'}")
    return "\n".join(lines) + "\n"


def test_tag():
    make("columns", sentence, (120, 20, 20), ".conll")
    args = ["train", "tag", "--data", "columns", *SMALL, *VOCAB, "--lr", "1e-2", "--batch-size", "16"]
    run(*args, "--run", "tags", "--epochs", "12", "--passes", "2", "--alpha", "0.5", "--class-weights", "balanced")
    scores = json.loads(run("eval", "tags", "--json").out)["scores"]
    expect(scores["test F1"] > 60, scores)
    text = open("columns/test.conll").read()
    given = "-DOCSTART- -X- O\n\n# a line about it\n" + text.replace(" O", "").replace(" B-X", "").replace(" I-X", "")
    told = run("tag", "tags", text=given.encode()).out.splitlines()
    expect(told[:3] == ["-DOCSTART- -X- O", "", "# a line about it"] and len(told) == len(given.splitlines()), told[:9])
    pairs = [(a, b.replace("\t", " ")) for a, b in zip(text.splitlines(), told[3:])]
    right = sum(a == b for a, b in pairs if a) / sum(bool(a) for a, b in pairs)
    expect(abs(right - scores["word accuracy"] / 100) < 1e-3 and not any(b for a, b in pairs if not a), right)
    same = run("tag", "tags", text=b"aa x 1\nb\ty\n").out.splitlines()
    expect(same[0].startswith("aa x 1 ") and same[1].startswith("b\ty\t"), same)
    run("train", "tag", "--data", "columns", "--quiet", "--threads", "1", "--run", "parts", "--epochs", "1", "--plan",
        "replay", "--accumulate", "2", "--init", "tags", "--freeze", "1", "--layer-decay", "0.5", "--ema", "0.5")
    for content, says in {"a B-X\nb\n\n": "train.conll:2: expected a word and its tag, got 'b'",
                          "\n\n": "train.conll: no sentence", "a O\n": "expected at least 2 tags, got 'O' alone"}.items():
        shutil.copytree("columns", "odd", dirs_exist_ok=True)
        write("odd/train.conll", content)
        fails("train", "tag", "--data", "odd", *SMALL, "--run", "none", says=says)
    fails("tag", "tags", text=b"\n", says="standard input: no sentence")
    write("odd/train.conll", "a NN\nb VB\n\n" * 9)
    write("odd/valid.conll", "a NN\nb XX\n")
    write("odd/test.conll", "a NN\nb VB\n")
    run("train", "tag", "--data", "odd", *SMALL, "--vocab-size", "12", "--epochs", "1", "--run", "kinds")
    expect(list(json.loads(run("eval", "kinds", "--json").out)["scores"]) == ["word accuracy"], "spans of no scheme")


run_cases(globals())
