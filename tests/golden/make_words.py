#!/usr/bin/env python3
"""Golden ids of WordPiece and byte-level BPE from the `tokenizers` library, in words.json beside this file.

    pip install tokenizers==0.23.3 pyicu    # pyicu of ICU 72: Debian 12's libicu-dev
    tests/golden/make_words.py

The vocabularies are trained here, by the library's trainers, on the lines themselves; WordPiece's does not give the same twice, so pieces of a words.json
that is there are kept. Lines are made of code points of
every script by rules that the test has, too (`Lines`): words.json holds the code points, not the lines. Nothing here is
needed to build or test.
"""

import json
import pathlib

import icu
import tokenizers
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

LINES, GROUP, TEXTS = 10_000, 10, 100  # lines, of a hash of ids, of a hash of decoded texts
CODE_POINTS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
MASK64 = (1 << 64) - 1

# What lines are made of, beside the letters of scripts.
WORDS = ("the The THE a of don't DON'T I'll we've they're it's 's 't 'd 'm 'LL can''t naïve Über straße İstanbul ΑΣ ﬁ Ǆ ǅ ß ẞ "
         "e\u0301 e\u0323\u0301 e\u0301\u0323 한국어 각 日本語 中文字 𠀀 C++ x_y 3.14 1,000 2² ½ Ⅷ ٣٤ #tag @home http://a.b/c?d=e&f #").split()
EMOJI = ["\U0001F600", "\U0001F44D\U0001F3FD", "\U0001F469\u200D\U0001F680", "\U0001F468\u200D\U0001F469\u200D\U0001F467", "\u2764\uFE0F",
         "\U0001F1EE\U0001F1F9", "1\uFE0F\u20E3", "\U0001F3F4\U000E0067\U000E0062\U000E007F", "\u2603"]
CONTROLS = ["\0", "\1", "\x08", "\x0b", "\x0c", "\x1b", "\x1f", "\x7f", "\x80", "\x85", "\x9f", "\xad", "\u200b", "\u200d", "\u200e", "\u2028",
            "\u2029", "\u2060", "\ufeff", "\ufffd", "\ufffe", "\uffff", "\ue000", "\U000E0001", "\U0010FFFF", "\u180e"]
BLANKS = [" ", "  ", "   ", "\t", "\n", "\r", "\r\n", " \n", "\n ", "\u00a0", "\u1680", "\u2000", "\u2003", "\u2009", "\u202f", "\u205f",
          "\u3000", "\u3000 ", " \u3000", "    "]
PIECES = ["[MASK]", "[MASK]x", " [SEP] ", "[CLS]", "[PAD]", "[UNK]", "[mask]", "<s>", "</s>", "<pad>", "<unk>", " <mask>", "  <mask> x", "<mask><mask>",
          "<|endoftext|>", "##a", "##", "\u0120", "new", "New", "renew", " stripped ", "\u2581"]
MARKS = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"


class Random:
    """splitmix64"""

    def __init__(self, seed):
        self.state = seed

    def below(self, n):
        self.state = (self.state + 0x9E3779B97F4A7C15) & MASK64
        z = self.state
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & MASK64
        z = (z ^ z >> 27) * 0x94D049BB133111EB & MASK64
        return (z ^ z >> 31) % n


class Lines:
    """Line i, the same in tests/nn/data/test_words.cpp."""

    def __init__(self, scripts):
        self.scripts = [expanded(ranges) for _, ranges in sorted(scripts.items())]

    def letters(self, random, script, count):
        return "".join(chr(script[random.below(len(script))]) for _ in range(count))

    def token(self, random, script):
        kind = random.below(16)
        if kind < 6:
            return self.letters(random, script, 1 + random.below(6))
        if kind == 6:
            return self.letters(random, self.scripts[random.below(len(self.scripts))], 1 + random.below(3))
        if kind == 7:
            return self.letters(random, script, 90 + random.below(40)) if random.below(8) == 0 else "ab" * random.below(60)
        if kind == 8:
            return EMOJI[random.below(len(EMOJI))]
        if kind == 9:
            return CONTROLS[random.below(len(CONTROLS))]
        if kind == 10:
            return BLANKS[random.below(len(BLANKS))]
        if kind == 11:
            return str(random.below(10 ** (1 + random.below(9))))
        if kind == 12:
            return "".join(MARKS[random.below(len(MARKS))] for _ in range(1 + random.below(4)))
        if kind == 13:
            return PIECES[random.below(len(PIECES))]
        return WORDS[random.below(len(WORDS))]

    def line(self, i):
        random, script = Random(i), self.scripts[i % len(self.scripts)]
        text = ""
        for _ in range(1 + random.below(12)):
            text += self.token(random, script)
            text += ["", " ", " ", "\u0301"][random.below(4)]
        return text


def expanded(ranges):
    return [c for first, last in ranges for c in range(first, last + 1)]


def ranges_of(code_points):
    ranges = []
    for c in sorted(code_points):
        if ranges and ranges[-1][1] == c - 1:
            ranges[-1][1] = c
        else:
            ranges.append([c, c])
    return ranges


def fnv(text, state=0xCBF29CE484222325):
    for byte in text.encode():
        state = (state ^ byte) * 0x100000001B3 & MASK64
    return state


# What this project does with a code point, by ICU, and what the library does. ------------------------------------------

CHINESE = [(0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F), (0x2B740, 0x2B81F),
           (0x2B920, 0x2CEAF), (0x2F800, 0x2FA1F)]
Category = icu.UCharCategory
LETTERS = {Category.UPPERCASE_LETTER, Category.LOWERCASE_LETTER, Category.TITLECASE_LETTER, Category.MODIFIER_LETTER, Category.OTHER_LETTER}
NUMBERS = {Category.DECIMAL_DIGIT_NUMBER, Category.LETTER_NUMBER, Category.OTHER_NUMBER}
CONTROL = {Category.CONTROL_CHAR, Category.FORMAT_CHAR, Category.PRIVATE_USE_CHAR}
PUNCTUATION = {Category.DASH_PUNCTUATION, Category.START_PUNCTUATION, Category.END_PUNCTUATION, Category.CONNECTOR_PUNCTUATION,
               Category.OTHER_PUNCTUATION, Category.INITIAL_PUNCTUATION, Category.FINAL_PUNCTUATION}
NFD = icu.Normalizer2.getNFDInstance()


def kind(c):
    return icu.Char.charType(chr(c))


def blank(c):
    return icu.Char.isUWhiteSpace(chr(c))


def lower(c):
    return "i\u0307" if c == 0x130 else icu.Char.tolower(chr(c))


def bert_words(c, lowercase, strip):
    """Of a<c>b."""
    if c in (9, 10, 13) or blank(c) and kind(c) not in CONTROL:
        return ["a", "b"]
    if c == 0xFFFD or kind(c) in CONTROL:
        return ["ab"]
    text = f"a {chr(c)} b" if any(first <= c <= last for first, last in CHINESE) else f"a{chr(c)}b"
    if strip:
        text = "".join(x for x in NFD.normalize(text) if kind(ord(x)) != Category.NON_SPACING_MARK)
    if lowercase:
        text = "".join(lower(ord(x)) for x in text)
    words = [""]
    for x in text:
        if blank(ord(x)):
            words.append("")
        elif x in MARKS or ord(x) >= 128 and kind(ord(x)) in PUNCTUATION:
            words += [x, ""]
        else:
            words[-1] += x
    return [word for word in words if word]


def gpt2_class(c):
    return "L" if kind(c) in LETTERS else "N" if kind(c) in NUMBERS else "S" if blank(c) else "O"


def differing():
    """Code points with which the library does otherwise, its Unicode being another."""
    bert = set()
    pre = pre_tokenizers.BertPreTokenizer()
    for lowercase, strip in ((False, False), (True, False), (True, True)):
        normalizer = normalizers.BertNormalizer(lowercase=lowercase, strip_accents=strip)
        for c in CODE_POINTS:
            words = [word for word, _ in pre.pre_tokenize_str(normalizer.normalize_str(f"a{chr(c)}b"))]
            if words != bert_words(c, lowercase, strip):
                bert.add(c)
    gpt2 = set()
    pre = pre_tokenizers.ByteLevel(add_prefix_space=False)
    for c in CODE_POINTS:
        one = [len(pre.pre_tokenize_str(before + chr(c))) == 1 for before in "a1!"]
        if ("LNO"[one.index(True)] if True in one else "S") != gpt2_class(c):
            gpt2.add(c)
    return bert, gpt2


def scripts_without(code_points):
    """The code points of each script that ICU knows."""
    scripts = {}
    for c in CODE_POINTS:
        if kind(c) != Category.UNASSIGNED and c not in code_points:
            scripts.setdefault(icu.Script.getScript(chr(c)).getShortName(), []).append(c)
    return {name: ranges_of(points) for name, points in scripts.items()}


# Vocabularies and their tokenizers. ----------------------------------------------------------------------------------

BERT_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def train_wordpiece(lines):
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.train_from_iterator(lines, trainers.WordPieceTrainer(vocab_size=2000, limit_alphabet=700, special_tokens=BERT_SPECIAL, show_progress=False))
    return [piece for piece, _ in sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])]


def train_bytes(lines):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.train_from_iterator(lines, trainers.BpeTrainer(vocab_size=2000, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    made = json.loads(tokenizer.to_str())["model"]
    return sorted(made["vocab"], key=made["vocab"].get), [" ".join(pair) for pair in made["merges"]]


def bert(pieces, added=(), **options):
    tokenizer = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(**options)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.add_special_tokens(BERT_SPECIAL)
    tokenizer.add_tokens(list(added))
    return tokenizer


def bytes_of(pieces, merges, special, prefix_space, roberta):
    tokenizer = Tokenizer(models.BPE({piece: i for i, piece in enumerate(pieces)}, [tuple(m.split(" ")) for m in merges]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix_space)
    if roberta:
        tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=prefix_space)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(piece, lstrip=piece == "<mask>", normalized=False) for piece in special])
    return tokenizer


def without_pieces(tokenizer):
    """tokenizer.json, whose pieces and merges are written once for all."""
    made = json.loads(tokenizer.to_str())
    for key in ("vocab", "merges"):
        made["model"].pop(key, None)
    return made


def numbers(ids):
    return "".join(f"{i} " for i in ids)


def hashes(texts, count):
    return "".join(f"{fnv(chr(10).join(texts[at:at + count])) & 0xFFFFFFFF:08x}" for at in range(0, len(texts), count))


def every_code_point(library, scripts):
    """A hash for each script, of a text for each of its code points: with it in a word, a number, marks and blanks."""
    made = {}
    for name, ranges in scripts.items():
        texts = [f"a{x}b1{x}!{x} {x}c" for x in map(chr, expanded(ranges))]
        made[name] = hashes([numbers(e.ids) for e in library.encode_batch(texts, add_special_tokens=False)], len(texts))
    return made


def golden(name, library, lines, **how):
    encoded = [e.ids for e in library.encode_batch(lines, add_special_tokens=False)]
    texts = [library.decode(ids) for ids in encoded]
    shown = {str(i): encoded[i] for i in range(0, LINES, 997)}
    pair = library.encode("a b", "c").ids, library.encode("a b", "c").type_ids
    return {"name": name, **how, "ids": hashes([numbers(ids) for ids in encoded], GROUP), "texts": hashes(texts, TEXTS), "shown": shown, "pair": pair}


def main():
    different = differing()
    scripts = scripts_without(different[0] | different[1])
    maker = Lines(scripts)
    lines = [maker.line(i) for i in range(LINES)]
    path = pathlib.Path(__file__).with_name("words.json")
    kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
    wordpiece = kept["vocabularies"]["wordpiece"]["pieces"] if kept else train_wordpiece(lines)
    pieces, merges = train_bytes(lines)
    gpt2 = pieces + ["<|endoftext|>"]
    roberta = ["<s>", "<pad>", "</s>", "<unk>"] + pieces + ["<mask>"]
    added = [AddedToken("New", normalized=True), AddedToken("stripped", normalized=True, lstrip=True, rstrip=True),
             AddedToken("ab", normalized=False, single_word=True)]
    made = {
        "bert": bert(wordpiece), "cased": bert(wordpiece, lowercase=False), "accents": bert(wordpiece, strip_accents=False, handle_chinese_chars=False),
        "raw": bert(wordpiece, added, lowercase=False, strip_accents=True, clean_text=False),
        "added": bert(wordpiece, added), "gpt2": bytes_of(gpt2, merges, ["<|endoftext|>"], False, False),
        "roberta": bytes_of(roberta, merges, ["<s>", "<pad>", "</s>", "<unk>", "<mask>"], True, True),
        "bart": bytes_of(roberta, merges, ["<s>", "<pad>", "</s>", "<unk>", "<mask>"], False, True)}
    # From vocab.txt and its configuration, from vocab.json and merges.txt, and from tokenizer.json.
    how = {"bert": {"config": {}}, "cased": {"config": {"do_lower_case": False}},
           "accents": {"config": {"strip_accents": False, "tokenize_chinese_chars": False}}, "gpt2": {"config": {}},
           "bart": {"config": {"tokenizer_class": "BartTokenizer"}}}
    for name in ("raw", "added", "roberta"):
        how[name] = {"tokenizer": without_pieces(made[name])}
    kinds = {"gpt2": "gpt2", "roberta": "roberta", "bart": "roberta"}
    parts = {
        "versions": {"tokenizers": tokenizers.__version__, "ICU": icu.ICU_VERSION, "Unicode": icu.UNICODE_VERSION},
        "differs": {"bert": ranges_of(different[0]), "gpt2": ranges_of(different[1])},
        "scripts": scripts,
        "text": {"words": WORDS, "emoji": EMOJI, "controls": CONTROLS, "blanks": BLANKS, "pieces": PIECES, "marks": MARKS},
        "lines": f"{fnv(chr(10).join(lines)):016x}",
        "vocabularies": {"wordpiece": {"pieces": wordpiece}, "gpt2": {"pieces": gpt2, "merges": merges},
                         "roberta": {"pieces": roberta[:4] + roberta[-1:]}},  # around those of GPT-2
        "every": {name: every_code_point(made[name], scripts) for name in ("bert", "accents", "gpt2")},
        "tokenizers": [golden(name, tokenizer, lines, vocabulary=kinds.get(name, "wordpiece"), **how[name]) for name, tokenizer in made.items()],
    }
    with open(path, "w", encoding="utf-8") as file:
        for i, (key, value) in enumerate(parts.items()):
            text = json.dumps(value, separators=(",", ":"), ensure_ascii=key == "text")
            file.write(f"{',' if i else '{'}\n{json.dumps(key)}: {text}")
        file.write("\n}\n")


if __name__ == "__main__":
    main()
