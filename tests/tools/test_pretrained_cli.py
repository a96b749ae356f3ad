"""Published models by the `tandem` command: --init, and what `tandem export` writes.

  test_pretrained_cli.py PATH_TO_TANDEM PATH_TO_GOLDEN
"""

import json
import os
import random
import shutil
import struct
import subprocess
import sys
import zlib

from cases import expect, run_cases

TANDEM, MODELS = os.path.abspath(sys.argv[1]), os.path.join(os.path.abspath(sys.argv[2]), "pretrained")
USAGE, FAILED = 2, 1
FEW = ["--epochs", "1", "--threads", "1"]
LETTERS = "abcdefgh"


def run(*args, status=0, text=""):
    done = subprocess.run([TANDEM, *args], capture_output=True, text=True, timeout=100, input=text)
    expect(done.returncode == status, f"exit status {done.returncode}, expected {status}, of {args}\n{done.stdout}{done.stderr}")
    return done


def fails(*args, says, status=USAGE):
    done = run(*args, status=status)
    expect(says in done.stderr, f"{args}: expected '{says}' in: {done.stderr}")
    expect(done.stdout == "" and not os.path.exists("none"), f"{args}: {done.stdout}")


def published(name, files):
    """A golden model's folder, with the files of a vocabulary beside its weights."""
    shutil.copytree(os.path.join(MODELS, name), name)
    for file, content in files.items():
        with open(os.path.join(name, file), "w") as f:
            f.write(content)
    return name


def wordpiece():
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS, *("##" + c for c in LETTERS)][:20]
    return {"vocab.txt": "\n".join(pieces) + "\n"}


def byte_level(special):
    pieces = [*special, *LETTERS, "Ġ", "Ġa"]
    pieces += [f"<unused{i}>" for i in range(20 - len(pieces))]
    if "<|endoftext|>" in special:  # the last of 20
        pieces = [p for p in pieces if p != "<|endoftext|>"] + ["<|endoftext|>"]
    return {"vocab.json": json.dumps({p: i for i, p in enumerate(pieces)}), "merges.txt": "#version: 0.2\nĠ a\n"}


def words(draw):
    return " ".join(draw.choice(LETTERS) for _ in range(draw.randint(2, 4)))


def make(folder, line, ending=".tsv"):
    os.makedirs(folder, exist_ok=True)
    draw = random.Random(5)
    for split, count in ("train", 24), ("valid", 8), ("test", 8):
        with open(f"{folder}/{split}{ending}", "w") as f:
            f.write("".join(line(draw, i) + "\n" for i in range(count)))


def make_texts():
    make("labels", lambda draw, i: f"{'first' if i % 2 else 'second'}\t{'a' if i % 2 else 'b'} {words(draw)}")
    make("pairs", lambda draw, i: f"{words(draw)}\t{words(draw)}")
    make("prose", lambda draw, i: words(draw), ".txt")


def config(folder):
    with open(f"{folder}/config.json") as f:
        return json.load(f)


def names(folder):
    with open(f"{folder}/model.safetensors", "rb") as f:
        header = json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))
    return {name: (entry["dtype"], entry["shape"]) for name, entry in header.items() if name != "__metadata__"}


def metadata(run_dir):
    with open(f"{run_dir}/best.safetensors", "rb") as f:
        return json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))["__metadata__"]


def test_bert_is_fine_tuned_and_handed_back():
    make_texts()
    bert = published("bert", wordpiece())
    done = run("train", "classify", "--data", "labels", "--init", bert, *FEW, "--run", "run")
    report = done.stdout + done.stderr
    for part in "Weights of bert (bert)", "loaded", "new           2  head.weight, head.bias":
        expect(part in report, f"no '{part}' in\n{report}")
    settings = open("run/settings.toml").read()
    expect("dropout = 0" in settings, settings)  # the model's own, where none is given
    expect("test accuracy" in run("eval", "run").stdout, "eval has no accuracy")
    run("classify", "run", text="a b c\n")
    run("export", "run", "--to", "out")
    expect(set(os.listdir("out")) == {"config.json", "model.safetensors", "vocab.txt"}, os.listdir("out"))
    expect(open("out/vocab.txt").read() == open("bert/vocab.txt").read(), "another vocabulary")
    theirs, ours = names("bert"), names("out")
    theirs["classifier.weight"], theirs["classifier.bias"] = ("F32", [2, 8]), ("F32", [2])
    expect(ours == theirs, f"{set(ours) ^ set(theirs)} {ours}")
    expect(config("out")["id2label"] == {"0": "first", "1": "second"}, config("out"))
    # What was handed back is taken with its head, which has the same classes.
    again = run("train", "classify", "--data", "labels", "--init", "out", *FEW, "--run", "again")
    expect("new" not in (again.stdout + again.stderr).split("Weights of")[1].split("\n\n")[0], again.stdout + again.stderr)
    # Also where they come in another order.
    turned = config("out")
    turned["id2label"] = {"0": "second", "1": "first"}
    with open("out/config.json", "w") as f:
        json.dump(turned, f)
    run("train", "classify", "--data", "labels", "--init", "out", "--lr", "0", *FEW, "--run", "turned")
    told = [json.loads(run("eval", name, "--json").stdout)["scores"]["test accuracy"] for name in ("run", "turned")]
    expect(abs(sum(told) - 100) < 1e-6, f"the rows of the head are not the classes': {told}")
    fails("export", "run", "--to", "out", says="expected a new or an empty folder")
    fails("train", "classify", "--data", "labels", "--init", bert, "--dim", "16", *FEW, "--run", "none",
          says="--init: the sizes and the vocabulary are those of 'bert'")


def test_every_kind_of_text_model():
    make_texts()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    cases = [("mlm", published("bert_masked", wordpiece()), "labels", ["--batch-size", "8"]),
             ("classify", published("roberta", byte_level(special)), "labels", []),
             ("classify", published("sentence", wordpiece()), "labels", []),
             ("lm", published("gpt2", byte_level(["<|endoftext|>"])), "prose", ["--block", "8"]),
             ("translate", published("bart", byte_level(special)), "pairs", ["--beam", "1"])]
    for task, model, data, more in cases:
        done = run("train", task, "--data", data, "--init", model, *more, *FEW, "--run", f"run-{model}")
        expect("loaded" in done.stdout + done.stderr, done.stdout + done.stderr)
        run("eval", f"run-{model}")
        if model == "sentence":  # the mean of tokens and a head: no published class has both
            fails("export", f"run-{model}", "--to", "none", "--family", "gpt2", says="family: expected bert or roberta")
        run("export", f"run-{model}", "--to", f"out-{model}")
        for key in "model_type", "vocab_size", "hidden_act", "activation_function", "layer_norm_eps", "d_model":
            there, here = config(model).get(key), config(f"out-{model}").get(key)
            expect(here == there, f"{model}: {key} was {there}, is {here}")


def test_sentence_encoders_keep_their_pooling():
    make("scores", lambda draw, i: f"{i % 5}.5\t{words(draw)}\t{words(draw)}")
    published("sentence", wordpiece())
    for cls in True, False:
        with open("sentence/1_Pooling/config.json", "w") as f:
            json.dump({"pooling_mode_cls_token": cls, "pooling_mode_mean_tokens": not cls}, f)
        for name, args, pooling in ("own", [], "cls" if cls else "mean"), ("given", ["--pooling", "mean"], "mean"):
            run_dir = f"{name}-{cls}"
            run("train", "similarity", "--data", "scores", "--init", "sentence", *args, *FEW, "--run", run_dir)
            made = json.loads(metadata(run_dir)["config"])
            expect((made["pooling"], made["pooler"]) == (pooling, "none"), made)
            told = json.loads(run("eval", run_dir, "--json").stdout)["scores"]
            with open(f"{run_dir}/scores.json") as f:
                expect(told == json.load(f)["scores"], f"{run_dir}: eval says {told}")


def test_ids_of_padding():
    """GPT-2 has none: a vocabulary that pads with the end of a line takes none of them from the scores."""
    make_texts()
    published("gpt2", byte_level(["<|endoftext|>"]))
    shutil.copytree("gpt2", "padded")
    with open("padded/special_tokens_map.json", "w") as f:
        json.dump({"pad_token": "<|endoftext|>", "eos_token": "<|endoftext|>"}, f)
    scores = {}
    for model in "gpt2", "padded":
        for name, args in ("init", ["--init", model, "--lr", "0"]), \
                ("vocab", ["--vocab", model, "--preset", "tiny", "--dim", "8", "--mlp-dim", "8"]):
            run("train", "lm", "--data", "prose", *args, "--block", "8", *FEW, "--run", f"{name}-{model}")
            scores[name, model] = json.loads(run("eval", f"{name}-{model}", "--json").stdout)["scores"]
    for name in "init", "vocab":
        expect(scores[name, "gpt2"] == scores[name, "padded"], f"{name}: {scores}")
    published("bert", {"vocab.txt": wordpiece()["vocab.txt"].replace("[PAD]\n[UNK]", "[UNK]\n[PAD]")})
    fails("train", "classify", "--data", "labels", "--init", "bert", *FEW, "--run", "none",
          says="--init: 'bert': its vocabulary pads with the id 1, its model expects 0 (pad_token_id)")


def test_tags_of_words():
    os.makedirs("columns")
    for split, count in ("train", 12), ("valid", 4), ("test", 4):
        with open(f"columns/{split}.conll", "w") as f:
            f.write("a B-X\nb I-X\nc O\n\n" * count)
    for name, files in ("bert", wordpiece()), ("roberta", byte_level(["<s>", "<pad>", "</s>", "<unk>", "<mask>"])):
        run("train", "tag", "--data", "columns", "--init", published(name, files), *FEW, "--run", f"run-{name}")
        run("eval", f"run-{name}")
        run("export", f"run-{name}", "--to", f"out-{name}")
        expect(config(f"out-{name}")["architectures"][0].endswith("ForTokenClassification"), config(f"out-{name}"))
        expect(names(f"out-{name}")["classifier.weight"] == ("F32", [3, 8]), names(f"out-{name}"))
        expect(sorted(config(f"out-{name}")["id2label"].values()) == ["B-X", "I-X", "O"], config(f"out-{name}"))


def write_png(path, side, pixels):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + bytes(pixels[y * side:(y + 1) * side]) for y in range(side))
    with open(path, "wb") as f:
        f.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)) +
                chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def make_images():
    draw = random.Random(1)
    for split, count in ("train", 12), ("test", 4):
        for label in "bar", "dot":
            os.makedirs(f"images/{split}/{label}", exist_ok=True)
            for i in range(count):
                write_png(f"images/{split}/{label}/{i}.png", 6, [draw.randrange(256) for _ in range(36)])


def test_vits_take_small_grey_images_and_are_handed_back():
    make_images()
    for model in "vit", "deit", "dinov2", "timm_vit", "timm_average":
        published(model, {})
        size = config(model).get("image_size", 8)
        done = run("train", "vit", "--data", "images", "--init", model, "--valid", "4", *FEW, "--run", f"run-{model}")
        report = done.stdout + done.stderr
        expect(f"resized from 6x6 to {size}x{size} pixels" in report and "loaded" in report, report)
        run("eval", f"run-{model}")
        run("predict", f"run-{model}", "images/test/bar/0.png")
        run("export", f"run-{model}", "--to", f"out-{model}")
        family = {"vit": "vit", "deit": "deit", "timm_vit": "vit"}.get(model, "timm")  # that has all of the model's options
        expect(config(f"out-{model}").get("model_type", "timm") == family, config(f"out-{model}"))
        # Larger images: positions are interpolated.
        run("train", "vit", "--data", "images", "--init", f"out-{model}", "--image-size", "20", "--valid", "4", *FEW,
            "--run", f"larger-{model}")
    fails("train", "vit", "--data", "images", "--init", "vit", "--image-size", "10", "--valid", "4", *FEW, "--run",
          "none", says="--image-size: --init's model has patches of 4, expected a multiple of it, got 10")
    fails("train", "vit", "--data", "images", "--init", "vit", "--dim", "16", *FEW, "--run", "none", says="--init: the sizes")


def test_bad_folders():
    make_texts()
    published("vit", {})
    published("bert", wordpiece())
    fails("train", "classify", "--data", "labels", "--init", "vit", *FEW, "--run", "none", says="vocab", status=FAILED)
    os.rename("bert/model.safetensors", "bert/pytorch_model.bin")
    fails("train", "classify", "--data", "labels", "--init", "bert", *FEW, "--run", "none", says="a pickle runs code")
    fails("train", "lm", "--data", "prose", "--init", "nothing", *FEW, "--run", "none", says="--init: nothing: no such file")


run_cases(globals())
