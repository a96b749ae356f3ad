"""What tools/bench/peers/run measures: the rows in their order, each a case of bench_peers and torch_side.py."""
import os
from dataclasses import dataclass
from typing import Optional


@dataclass
class Row:
    name: str
    case: str
    precision: str = "f32"
    best: Optional[str] = "best"  # the kind that PyTorch at its best is asked for; None: we are alone
    as_run: Optional[str] = "eager"  # and PyTorch as people run it
    floor: tuple = ()  # our own cases and how often they fit into the row's work: the shortest is its floor
    bar: float = 0  # how many times as fast as the best Tandem shall be, ...
    floor_bar: float = 0  # ... or how far from the floor it may be; 0: nothing is asked
    step: bool = False  # a training step, whose memory --memory measures


def copies(count):
    """The traffic of a copy of [8192, 1024] f32, so often."""
    return (f"copy bytes={8192 * 1024 * 4}", "f32", count)


def loss(m, units, classes, bar=0):
    # The paper's code keeps m (m - 1) logs of probabilities and more: above 24 GB it is not asked.
    as_run = "eager" if m * (m - 1) * units * classes < 10**9 else None
    return Row(f"R-Drop loss {units} x {classes}, m = {m}", f"rdrop units={units} classes={classes} passes={m}",
               bar=bar, as_run=as_run, floor=((f"copy bytes={m * units * classes * 4}", "f32", 1),))


def vit_s(head, batch, classes=1000):
    return (f"{head} image=224 patch=16 dim=384 layers=12 heads=6 mlp=1536 classes={classes} batch={batch} "
            "dropout=0.1 attention_dropout=0")


def products(flop, *shapes):
    """The time of so many FLOP at the rate of these products."""
    return tuple((f"product rows={r} inner={i} columns={c}", "f32", flop / (2 * r * i * c)) for r, i, c in shapes)


VIT = ("vit image=32 patch=4 dim=192 layers=6 heads=3 mlp=768 classes=10 batch=64 dropout=0.1 "
       "attention_dropout=0.1")
# 11 layers of 12 d^2 and 2 T d for each of 16 x 197 tokens, keys and values of the last, and patches, forward and twice that
# backward.
VIT_S_FLOP = 3 * 2 * 16 * (197 * (11 * (12 * 384**2 + 2 * 197 * 384) + 2 * 384**2) + 196 * 3 * 16**2 * 384)


def layer_flop(dim, mlp, keys, attentions=1):
    """Of the products of a Transformer's layer, forward, for each of its rows."""
    return attentions * (8 * dim**2 + 4 * keys * dim) + 4 * dim * mlp


# Rows are m B T; a row of causal attention sees T / 2 keys, one of the half padded encoder, whose last layer makes keys and
# values alone, T 2 / 3.
SENTENCES_FLOP = 3 * 2 * 128 * 32 * (3 * layer_flop(256, 1024, 32) + 3 * layer_flop(256, 1024, 24, 2) + 2 * 256 * 10000)
LM_FLOP = 3 * 2 * 4 * 512 * (6 * layer_flop(256, 1024, 256) + 2 * 256 * 16000)
ENCODER_FLOP = 3 * 2 * 32 * 64.5 * (5 * layer_flop(384, 1536, 85) + 4 * 384**2)
DECODE_FLOP = 64 * 64 * (3 * (layer_flop(256, 1024, 32, 2) - 4 * 256**2) + 2 * 256 * 10000)
TRANSFORMER = "vocab=10000 dim=256 layers=3 heads=4 mlp=1024"
SENTENCES = f"transformer {TRANSFORMER} batch=128 tokens=32 dropout=0.3 attention_dropout=0"
PADDED_SENTENCES = f"padded_{SENTENCES}"
LM = "lm vocab=16000 dim=256 layers=6 heads=4 mlp=1024 batch=4 tokens=512 dropout=0.1 attention_dropout=0.1"
ENCODER = ("encoder vocab=30000 classes=2 dim=384 layers=6 heads=6 mlp=1536 batch=32 tokens=128 dropout=0.1 "
           "attention_dropout=0.1")
CNN = "channels=1 image=28 width=32 batch=128"
# Shapes that nothing was made fast for.
OTHERS = {
    "ViT-Ti/16 step, attention dropout, batch 12":
        "vit image=224 patch=16 dim=192 layers=12 heads=3 mlp=768 classes=100 batch=12 dropout=0.1 attention_dropout=0.1",
    "ViT step, 48 pixels, d 256, m = 4":
        "vit image=48 patch=6 dim=256 layers=4 heads=8 mlp=512 classes=37 batch=24 passes=4 dropout=0.2 attention_dropout=0",
    "LM step, d 512, T 100, V 5000":
        "lm vocab=5000 dim=512 layers=4 heads=8 mlp=2048 batch=20 tokens=100 dropout=0.3 attention_dropout=0",
    "encoder step, d 128, 64 x 48, half padding":
        "encoder vocab=8000 classes=5 dim=128 layers=4 heads=4 mlp=512 batch=64 tokens=48 dropout=0.1 attention_dropout=0.1",
    "encoder-decoder step, d 512, 24 x 50, V 3000":
        "transformer vocab=3000 dim=512 layers=2 heads=8 mlp=1024 batch=24 tokens=50 dropout=0.1 attention_dropout=0.1",
    "CNN step, 3 x 64 pixels, m = 2":
        "cnn channels=3 image=64 width=24 batch=48 classes=20 dropout=0.5",
    "R-Drop loss 3000 x 257, m = 3": "rdrop units=3000 classes=257 passes=3",
    "greedy decoding, 8 x 40, d 512":
        "decode vocab=16000 dim=512 layers=4 heads=8 mlp=2048 batch=8 tokens=40 steps=40 dropout=0.1 attention_dropout=0",
}
PHOTOS = "/dev/shm/tandem-bench-photos" if os.access("/dev/shm", os.W_OK) else "/tmp/tandem-bench-photos"
# Name; what is asked of forward, and of forward and backward; the least traffic of either, in copies.
OPS = [
    ("cumsum", 1.3, 1, 2),
    ("transpose", 1.3, 1, 2),
    ("softmax_columns", 1.3, 1, 2.5),
    ("sort", 1.3, 2, 4),
    ("add_row", 1.3, 1, 2),
    ("add", 1.2, 1.5, 3),
    ("mul", 1.2, 1.5, 4),
    ("relu", 1.2, 1, 2.5),
    ("gelu", 1.2, 1, 2.5),
    ("softmax", 1.2, 1, 2.5),
    ("sum", 1.2, 0.5, 1),
    ("layer_norm", 1.2, 1, 2.5),
    ("embedding", 1.2, 1, 2.1),
    ("max_pool2d", 1.2, 0.625, 1.75),
    ("conv2d", 1.2, 0, 0),
    ("matmul", 1.2, 0, 0),
]
BLOCK = "rows=8192 columns=1024"

ROWS = [
    loss(2, 4096, 1000, 6), loss(2, 512, 50257, 8), loss(2, 64, 10, 4), loss(2, 2048, 10152), loss(2, 1024, 32768),
    loss(8, 4096, 1000, 4), loss(8, 512, 50257, 4), loss(8, 64, 10, 3),
    Row("ViT-S/16 step, batch 8", vit_s("vit", 8), bar=1.6, floor_bar=1.12, step=True,
        floor=products(VIT_S_FLOP, (3152, 384, 1536), (3152, 1536, 384), (1024, 1024, 1024))),
    Row("ViT step", VIT, step=True),
    Row("ViT step, bf16", VIT, "bf16", floor=((VIT, "f32", 1),), floor_bar=1),
    Row("LM step, T 512, V 16000", LM, bar=2, step=True,
        floor=products(LM_FLOP, (4096, 256, 1024), (4096, 1024, 256), (1024, 256, 16000))),
    Row("encoder step, half padding", ENCODER, bar=2.5, step=True,
        floor=products(ENCODER_FLOP, (4128, 384, 1536), (4128, 1536, 384))),
    Row("encoder step, peer packed", ENCODER, best="packed", as_run=None, step=True),
    Row("encoder-decoder step", SENTENCES, bar=2, step=True,
        floor=products(SENTENCES_FLOP, (8192, 256, 1024), (8192, 1024, 256), (1024, 256, 10000))),
    Row("encoder-decoder step, half padding", PADDED_SENTENCES, bar=2, as_run=None, step=True),
    Row("encoder-decoder step, peer packed", PADDED_SENTENCES, best="packed", as_run=None, step=True),
    Row("encoder-decoder step, bf16", SENTENCES, "bf16", floor=((SENTENCES, "f32", 1),), floor_bar=1),
    Row("CNN step, plain", f"cnn {CNN} classes=10 dropout=0.3 passes=1", bar=1.15, floor_bar=1.2, step=True,
        floor=((f"convolutions {CNN}", "f32", 1),)),
    Row("ViT-S/16 prediction, batch 1", vit_s("vit_inference", 1), bar=1.6),
    Row("ViT-S/16 prediction, batch 16", vit_s("vit_inference", 16), bar=1.3),
    Row("greedy decoding, 64 x 64", f"decode {TRANSFORMER} batch=64 tokens=32 steps=64 dropout=0.3 attention_dropout=0",
        bar=3, floor=products(DECODE_FLOP, (64, 256, 256), (64, 256, 1024), (64, 256, 10000))),
    *[Row(name, case, step=" step" in name) for name, case in OTHERS.items()],
    *[Row(f"op: {name}, {way}", f"op name={name} {BLOCK} backward={backward}", bar=bar,
          floor=(copies(count),) if count else (), floor_bar=1.1 if count else 0)
      for name, bar, *counts in OPS for backward, (way, count) in enumerate(zip(("forward", "both"), counts))],
    Row("op: AdamW", f"adamw {BLOCK}", bar=1.2, floor=(copies(3.5),), floor_bar=1.1),
    Row("tiny op (8 floats), 1000 times", "tiny_op", best="eager"),
    *[Row(f"480 photos, {by}", f"photos folder={PHOTOS} image=224 batch=64 resize={by}", best="eager")
      for by in ("bilinear", "bicubic")],
    Row("ViT-S/16 step on photos", vit_s(f"photo_step folder={PHOTOS} resize=bicubic", 16, 10), best=None, as_run=None,
        floor=((vit_s("vit", 16, 10), "f32", 1),)),
]
