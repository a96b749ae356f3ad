"""Writes DIR/TARGET/NAME: small inputs that each fuzz target begins with.   seeds.py DIR"""
import gzip
import json
import pathlib
import struct
import sys
import zlib


def safetensors():
    def file(header, data, pad=True):
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8 if pad else 0)
        return struct.pack("<Q", len(text)) + text + data

    def entry(dtype, shape, begin, end):
        return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}

    yield "empty", file({}, b"")
    yield "scalar", file({"x": entry("F32", [], 0, 4)}, bytes(4))
    yield "several", file({"__metadata__": {"task": "vit", "classes": '["a","b"]'}, "a.weight": entry("F32", [2, 3], 0, 24),
                           "b": entry("BF16", [4], 24, 32), "c": entry("I64", [1, 1], 32, 40), "d": entry("BOOL", [3], 40, 43),
                           "e": entry("U8", [0, 5], 43, 43)}, bytes(43))
    yield "overlap", file({"a": entry("F64", [2], 0, 16), "b": entry("I32", [2], 8, 16)}, bytes(16))
    yield "overflow", file({"a": entry("F32", [1 << 31, 1 << 31, 4], 0, 16)}, bytes(16))
    yield "nothing_of_much", file({"a": entry("F32", [0, 1 << 62, 4], 0, 0)}, b"")
    yield "twice", struct.pack("<Q", 2 * 54 + 1) + b"{" + b",".join([b'"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}'] * 2) + b"}    0"


def png():
    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    def file(width, height, depth, color, rows, *more, interlaced=0):
        return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, interlaced))
                + b"".join(more) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))

    for depth in (1, 2, 4, 8, 16):
        yield f"gray{depth}", file(3, 3, depth, 0, (b"\0" + b"\x5a" * ((3 * depth + 7) // 8)) * 3)
    for depth in (8, 16):
        for color, channels in ((2, 3), (4, 2), (6, 4)):
            yield f"color{color}_{depth}", file(3, 3, depth, color, (b"\1" + b"\x5a" * (3 * channels * depth // 8)) * 3)
    palette = chunk(b"PLTE", bytes(range(12)))
    yield "palette", file(4, 2, 2, 3, b"\0\x1b\2\xe4", palette, chunk(b"tRNS", b"\0\x80"))
    yield "interlaced", file(2, 2, 8, 0, b"\0a\0b\0cd", interlaced=1)
    yield "chunks", file(1, 1, 8, 2, b"\0rgb", chunk(b"gAMA", struct.pack(">I", 45455)), chunk(b"tRNS", b"\0r\0g\0b"),
                         chunk(b"sRGB", b"\0"), chunk(b"tEXt", b"Title\0x"), chunk(b"iCCP", b"p\0\0" + zlib.compress(b"profile")))


def photo():
    golden = pathlib.Path(__file__).parent.parent / "golden/photos.json"
    for file in json.loads(golden.read_text())["files"]:
        yield file["name"].replace(" ", "_").replace(":", ""), bytes.fromhex(file["bytes"])
    yield "exif", b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0"
    yield "bomb", b"RIFF\x1e\0\0\0WEBPVP8L\x11\0\0\0\x2f\xff\xff\xff\x0f" + bytes(13)


def photo_list():
    yield "tabs", b"t\xef\xbb\xbfa/b.jpg\tcat\r\n\n./a/../c.jpg\tdog"
    yield "csv", b'c label,x,image,split\ncat,1,a.jpg,train\n"a ""b"", c",2,b.jpg,val\n'
    yield "json", b'j{"image": "a.jpg", "label": 3}\n{"path": "b.jpg", "class": "x", "split": "test", "deep": ' + b"[" * 200 + b"]" * 200 + b"}\n"
    yield "outside", b"t../a\tb\n/a\tb\n"
    yield "deep", b"j" + b"[" * 300_000


LABELS = struct.pack(">IIBBB", 0x801, 3, 0, 1, 2)
IMAGES = struct.pack(">IIII", 0x803, 3, 2, 2) + bytes(range(12))


def idx():
    yield "plain", bytes([len(LABELS)]) + LABELS + IMAGES
    for level in (0, 9):
        labels = gzip.compress(LABELS, level, mtime=0)
        yield f"gzip{level}", bytes([len(labels)]) + labels + gzip.compress(IMAGES, level, mtime=0)
    yield "huge", bytes([12]) + struct.pack(">III", 0x801, 0xFFFFFFFF, 0) + struct.pack(">IIII", 0x803, *[0xFFFFFFFF] * 3)


def gz():
    for level in (0, 1, 9):
        yield f"labels{level}", gzip.compress(LABELS, level, mtime=0)[10:]
        yield f"images{level}", gzip.compress(IMAGES, level, mtime=0)[10:]
    many = struct.pack(">IIII", 0x803, 100, 100, 10) + bytes(100000)
    yield "many", gzip.compress(many, mtime=0)[10:]
    yield "two", gzip.compress(LABELS[:8], mtime=0)[10:] + gzip.compress(LABELS[8:], mtime=0)


def toml():
    yield "options", (b'# a run\npasses = 3\nlr = 1e-3  # rate\ndata = "a \\"b\\" \\\\ \\n\\t"\nrun = \'x\\y\'\n[vit]\n'
                      b'dims = [1, 2,\n  3, # three\n]\nflag = true\nnames = ["a", \'b\']\r\n')
    yield "errors", b'a = \nb = "x\n[c\nd = [1 2]\n'
    yield "twice", b"a = 1\na = 2\n"
    yield "many", b"".join(b"a%d=1\n" % i for i in range(100_000))
    yield "list", b"a=[" + b"1," * 500_000 + b"]"


def curves():
    head = b"epoch,step,split,loss,ce,kl,accuracy,lr,alpha,samples_per_s,seconds,metric\n"
    yield "vit", head + b"1,10,train,2.3,2.2,0.1,0.1,0.001,1,100.0,1.0,\n1,10,valid,2.2,2.2,,0.2,,,100.0,0.1,\n"
    yield "metric", head + b"1,10,train,nan,inf,-1e-9,,0.001,1,100.0,1.0,\n1,10,valid,2,2,,,,,100.0,0.1,33.5\n"
    yield "columns", b"step,epoch\n1,2\n"
    yield "wide", head[:-1] + b"".join(b",x%d" % i for i in range(100_000)) + b"\n" + b"," * 100_000


def report():
    head = b"epoch,step,split,loss,ce,kl,accuracy,lr,alpha,samples_per_s,seconds,metric\n"
    metrics = head + b"1,2,train,2.3,2.2,0.1,0.1,0.001,1,100.0,1.0,\n1,2,valid,2.2,2.2,,0.2,,,100.0,0.1,3.5\n"
    steps = b"".join(b'{"step":%d,"epoch":1,"split":"train","loss":2.5,"ce":2.25,"kl":0.5,"accuracy":0.25,"memory_mb":80.5}\n' % i for i in (1, 2))
    scores = b'{"task":"vit","training":"R-Drop","scores":{"test accuracy":81.5,"<b>":null},"validation":{"name":"F1","value":3,"higher_is_better":true}}'
    settings = b'passes = 2\nrates = [0.1, 0.2]\nseed = 3\ndata = "</script><script>"\n'
    yield "whole", b"\x1e".join((metrics, steps, scores, settings))
    yield "plain", b"\x1e".join((metrics, b"", scores, b"passes = 1\nalpha = 1\n"))
    yield "half", b"\x1e".join((head, steps + b'{"step":3,"spl', b'{"task":3}', settings))
    yield "large", b"\x1e".join((metrics.replace(b"2.3", b"1e300"), steps.replace(b"2.25", b"1e308").replace(b":2,", b":1e300,"), scores.replace(b"81.5", b"1e308"), b""))
    yield "bytes", b"\x1e".join((metrics, steps, scores.replace(b"vit", b"\xff\xe2\x80"), b"x = '\xff\x01&'\n"))


def text():
    yield "lines", "\ufeffone\r\n\n two \tthree\u00a0\U0001f600\n".encode()
    yield "pairs", "the cat\tdie Katze\na dog\tein Hund\n\t\nx\t\n".encode()
    yield "files", b"a\nb\n\xffc\nd\n"
    yield "labelled", b"a\tgood\nb\tbad\na\tfine\n"
    yield "labelled_pairs", b"a\tgood\tas gold\nb\tbad\tas brass\n"
    yield "scored", b"0.5\tgood\tfine\n-1e3\tx\ty\n"
    yield "columns", b"-DOCSTART- -X- O\n\nThe DT O\nEU NNP B-ORG\n\n# id 1\nA\tO\n# O\nword\n"
    yield "tabs", b"\t" * 2_000_000
    yield "long", b"a\t" + b"x" * 2_000_000 + b"\nb\tx\n"
    yield "nul", b"a\0b\n\xc0\x80\n\xed\xa0\x80\n"


def tokens():
    yield "known", b"the cat sat"
    yield "unknown", "\u2581\ufdd0e\ufdd0b \ufdd0\u2585 \t\u4e2d\U0001f600".encode()
    yield "long", b"the" * 300_000
    yield "blanks", b" " * 300_000
    yield "bytes", b"\xff\0\x80 the  mat "


def tokenizers():
    def files(text=b"", **contents):
        return b"\0".join([name.replace("__", ".").encode() + b"\n" + data for name, data in contents.items()] + [text] * bool(text))

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words = special + "a t h e c s o n m the cat ##s ##at ##t mat . 1 ##2".split()
    letters = [chr(c) for c in [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x144)]]
    pairs = ["t h", "th e", "\u0120 the", "a t", "\u0120 c", "\u0120c at"]
    made = [a + b for a, b in (pair.split() for pair in pairs)]
    pieces = {piece: i for i, piece in enumerate(["<s>", "<pad>", "</s>", "<unk>"] + letters + made + ["<mask>"])}
    lines = "\n".join(words).encode() + b"\n"
    yield "wordpiece", files(vocab__txt=lines)
    yield "cased", files(vocab__txt=lines, tokenizer_config__json=json.dumps({"do_lower_case": False, "mask_token": {"content": "the"},
        "added_tokens_decoder": {"10": {"content": "s", "lstrip": True, "rstrip": True, "single_word": True, "normalized": True}}}).encode())
    yield "bytes", files(vocab__json=json.dumps(pieces).encode(), merges__txt=b"#version: 0.2\n" + "\n".join(pairs).encode())
    yield "long", files(b"the" * 100_000, vocab__json=json.dumps(pieces).encode(), merges__txt="\n".join(pairs).encode())
    added = [{"id": i, "content": piece, "special": True, "normalized": False} for i, piece in enumerate(special)]
    cls, sep = ({"SpecialToken": {"id": piece, "type_id": 0}} for piece in ("[CLS]", "[SEP]"))
    a, b = ({"Sequence": {"id": name, "type_id": i}} for i, name in enumerate("AB"))
    bert = {"added_tokens": added, "normalizer": {"type": "BertNormalizer", "lowercase": True, "strip_accents": None},
            "pre_tokenizer": {"type": "BertPreTokenizer"}, "post_processor": {"type": "TemplateProcessing", "single": [cls, a, sep],
            "pair": [cls, a, sep, b, sep]}, "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
            "model": {"type": "WordPiece", "vocab": {word: i for i, word in enumerate(words)}, "unk_token": "[UNK]"}}
    yield "bert", files(tokenizer__json=json.dumps(bert).encode())
    bart = {"added_tokens": [{"id": len(pieces) - 1, "content": "<mask>", "special": True, "lstrip": True}], "normalizer": None,
            "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": True}, "post_processor": {"type": "RobertaProcessing", "cls": ["<s>", 0],
            "sep": ["</s>", 2]}, "model": {"type": "BPE", "vocab": pieces, "merges": [pair.split() for pair in pairs], "unk_token": "<unk>"}}
    yield "bart", files(tokenizer__json=json.dumps(bart).encode())
    deep = b"[" * 200_000 + b"]" * 200_000
    for where in b'{"model": DEEP}', b'{"model": {"type": "BPE", "vocab": {"a": DEEP}}}', b'{"model": {"vocab": {}, "merges": DEEP}}':
        yield f"deep{len(where)}", files(tokenizer__json=where.replace(b"DEEP", deep))
    yield "deep_beside", files(vocab__txt=lines, tokenizer_config__json=b'{"strip_accents": ' + deep + b"}")
    yield "deep_vocab", files(vocab__json=b'{"a": ' + deep + b"}", merges__txt=b"a a")


def vocabulary():
    """SentencePiece's ModelProto, in protobuf's wire format: pieces = 1, trainer_spec = 2, normalizer_spec = 3."""
    def varint(value):
        out = b""
        while value > 127:
            out += bytes([value & 127 | 128])
            value >>= 7
        return out + bytes([value])

    def field(number, value):
        if isinstance(value, float):
            return varint(number << 3 | 5) + struct.pack("<f", value)
        if isinstance(value, int):
            return varint(number << 3) + varint(value)
        return varint(number << 3 | 2) + varint(len(value)) + value

    def piece(letters, score, kind=1):
        return field(1, field(1, letters.encode()) + field(2, score) + field(3, kind))

    special = [piece("<pad>", 0.0, 3), piece("<unk>", 0.0, 2), piece("<s>", 0.0, 3), piece("</s>", 0.0, 3), piece("<mask>", 0.0, 3)]
    words = [piece(w, -float(i)) for i, w in enumerate("\u2581 a t h e c s o n m th at \u2581a \u2581th \u2581the cat".split())]
    for name, kind in (("unigram", 1), ("bpe", 2), ("word", 3), ("char", 4)):
        trainer = field(3, kind) + field(4, 21) + field(40, 1) + field(41, 2) + field(42, 3) + field(43, 0)
        normalizer = field(1, b"identity") + field(2, b"") + field(3, 1) + field(4, 0) + field(5, 1)
        yield name, b"".join(special + words) + field(2, trainer) + field(3, normalizer)
    yield "other_ids", b"".join(words)


def checkpoint():
    row = [0, 10, 2.5, 2.25, 0.125, 0.5, 0.001, 1.0, 100.0, 1.5]
    yield "record", b"r" + json.dumps({"train": [row + [None]], "valid": [row + [33.5]], "best_epoch": 0}).encode()
    yield "strings", b"s" + json.dumps(["a", "\u00e9", ""]).encode()
    yield "numbers", b"n" + b"[0.5, 1e300, -3, 0]"
    yield "number", b"n" + b"0.25"
    sizes = dict(dim=4, heads=2, mlp_dim=4, dropout=0.1, attention_dropout=0.0)
    text_sizes = dict(sizes, vocab=16, max_positions=8, pad_id=0, layer_drop=0.0, word_dropout=0.0, norm_first=True)
    vit = dict(sizes, image_size=8, channels=1, classes=10, patch_size=4, depth=1, drop_path=0.0, dropout_from=0, zero_head=False,
               head_dropout=0.0)
    yield "vit", b"v" + json.dumps(vit).encode()
    yield "cnn", b"c" + json.dumps(dict(image_size=8, channels=1, classes=10, width=2, dropout=0.1)).encode()
    yield "transformer", b"t" + json.dumps(dict(text_sizes, target_vocab=16, encoder_layers=1, decoder_layers=1,
                                                positions="sinusoidal", decoder_dropout=None, activation_dropout=0.0,
                                                activation="relu", norm_first=False, copy=False, tie_output=True)).encode()
    yield "language_model", b"l" + json.dumps(dict(text_sizes, layers=1, positions="learned", activation_dropout=0.0, activation="gelu",
                                                   cutoffs=[], factor=4)).encode()
    yield "text_encoder", b"e" + json.dumps(dict(text_sizes, segments=2, outputs=2, layers=1, norm_eps=1e-12, pooling="cls",
                                                 bi_encoder=False, norm_first=False)).encode()


    yield "deep", b"e" + json.dumps(dict(text_sizes, segments=2, outputs=2, layers=1, norm_eps=1e-12, pooling="DEEP", bi_encoder=False,
                                         norm_first=False)).encode().replace(b'"DEEP"', b"[" * 200_000 + b"]" * 200_000)
    yield "deep_record", b"r" + b'{"train": [[' + b"[" * 200_000 + b"]" * 200_000 + b']], "valid": [], "best_epoch": 0}'


def ptx():
    yield "kernel", b""".version 7.0
.target sm_75
.address_size 64
.file 1 "a.cu"
.global .align 4 .b8 table[8] = {1, 2, 0xff};
.const .align 8 .u64 place[1] = {generic(table)+4};
.shared .align 16 .b8 parts[64];
.extern .shared .align 16 .b8 rest[];
.func (.param .b32 result) helper(.param .b32 x) .noreturn;
.visible .entry kernel(.param .u64 a, .param .align 8 .b8 b[16]) .maxntid 256, 1, 1
{
 .reg .pred %p<3>; // registers
 .reg .b32 %r<5>;
 .loc 1 2 3, function_name $L__info0, inlined_at 1 4 5
 ld.param.u64 %rd1, [a];
 @!%p1 bra $L1;
 ld.acquire.gpu::cta.v2.f32 {%f1, %f2}, [%rd1+-4];
 mov.f32 %f3, 0f3f800000; /* one */
 setp.lt.s32 %p1|%p2, %r1, -5;
 call (retval), helper, (x);
$L1:
 ret;
}
.section .debug { .b8 1 }
"""
    yield "deep_operand", b".entry k() { mov " + b"!" * 100_000 + b"a; }"
    yield "deep_value", b".global .b8 a[1] = " + b"{" * 100_000


def pretrained():
    golden = pathlib.Path(__file__).resolve().parents[1] / "golden" / "pretrained"
    for first, family in (("v", "vit"), ("d", "dinov2"), ("t", "timm_average"), ("b", "bert"), ("g", "gpt2"), ("a", "bart")):
        yield family, first.encode() + (golden / family / "config.json").read_bytes()


def rdata():
    def item(kind, payload):
        return struct.pack(">i", kind) + payload
    strings = item(16, struct.pack(">i", 3) + item(9, struct.pack(">i", 3) + b"abc") + item(9, struct.pack(">i", 0)) + item(9, struct.pack(">i", -1)))
    for version, native in ((2, b""), (3, struct.pack(">i", 5) + b"UTF-8")):
        body = b"X\n" + struct.pack(">iii", version, 0x40000, 0x20300) + native + strings
        yield f"version{version}", (struct.pack(">i", len(body)) + zlib.compress(body)) * 2
    other = b"X\n" + struct.pack(">iii", 2, 0x40000, 0x20300) + item(13, b"")
    yield "other", struct.pack(">i", len(other)) + zlib.compress(other)


TARGETS = (safetensors, photo, photo_list, png, idx, gz, toml, curves, text, tokenizers, tokens, vocabulary, checkpoint, ptx, rdata, report, pretrained)


def write(folder):
    for target in TARGETS:
        place = pathlib.Path(folder, target.__name__)
        place.mkdir(parents=True, exist_ok=True)
        for name, data in target():
            (place / name).write_bytes(data)


if __name__ == "__main__":
    write(sys.argv[1])
