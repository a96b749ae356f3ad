"""What tools/gpu/bench measures: the work, with its sizes and its floor, and the rows in their order."""

PASSES = 2

VIT_B16 = dict(image=224, patch=16, dim=768, layers=12, heads=12, mlp=3072, classes=1000, batch=64, dropout=0.1)
VIT_SMALL = dict(image=32, patch=4, dim=192, layers=6, heads=3, mlp=768, classes=10, batch=64, dropout=0.1,
                 attention_dropout=0.1)
TRANSFORMER = dict(vocab=32768, dim=512, layers=6, heads=8, mlp=2048, batch=128, tokens=32, dropout=0.1,
                   attention_dropout=0)
LM = dict(vocab=40000, dim=768, layers=12, heads=12, mlp=3072, batch=8, tokens=1024, dropout=0.1)
SHORT = dict(batch=64 * PASSES, heads=12, tokens=197, dim=64, causal=0)
LONG = dict(batch=8 * PASSES, heads=12, tokens=1024, dim=64, causal=1)
# --tiny: the largest of each size.
TINY = dict(image=8, patch=4, dim=16, layers=1, heads=2, mlp=16, batch=2, vocab=40, classes=40, tokens=8, units=4,
            bytes=4096, size=32)


STEPS = ("vit", "transformer", "lm")  # the update comes after the products


class Work:
    """A name for people, and a case of bench_peers and torch_side.py: its kind and sizes."""

    def __init__(self, name, case, **sizes):
        self.name, self.case, self.sizes = name, case, sizes

    def shrunk(self):
        sizes = {k: min(v, TINY.get(k, v)) for k, v in self.sizes.items()}
        if "classes" in sizes:
            sizes["classes"] += self.sizes["classes"] % 7  # no two cases become one
        return Work(self.name, self.case, **sizes)

    def line(self, precision, kind):
        words = [f"{k}={v}" for k, v in dict(self.sizes, precision=precision, kind=kind).items()]
        return " ".join([self.case, *words])

    def floor(self, precision):
        """FLOP of the products and bytes of the least memory traffic."""
        s, size = self.sizes, 2 if precision == "bf16" else 4
        if self.case == "copy":
            return 0, 2 * s["bytes"]
        if self.case == "product":
            return 2 * s["size"] ** 3, 3 * s["size"] ** 2 * size
        if self.case == "rdrop":  # logits read, gradients written
            return 0, 2 * PASSES * s["units"] * s["classes"] * size
        if self.case == "attention":  # two products forward and five backward; q, k, v, dO and gradients, O
            rows = s["batch"] * s["heads"] * s["tokens"]
            return 14 * rows * s["tokens"] * s["dim"] / (2 if s["causal"] else 1), 12 * rows * s["dim"] * size
        # A step: three times the forward's products, of every pass; AdamW reads and writes weights and both
        # moments, and reads the gradient, all f32.
        d, mlp, layers = s["dim"], s["mlp"], s["layers"]
        weights = layers * (4 * d * d + 2 * d * mlp)
        if self.case == "vit":
            t = (s["image"] // s["patch"]) ** 2 + 1
            patch = 3 * s["patch"] ** 2 * d
            forward = s["batch"] * (2 * t * (weights + patch) + 4 * t * t * d * layers + 2 * d * s["classes"])
            weights += patch + d * s["classes"]
        else:
            t = s["tokens"]
            scores = 4 * t * d * layers
            if self.case == "transformer":  # the decoder has a second attention, and its first is causal
                weights = 2 * weights + layers * 4 * d * d
                scores *= 2.5
            else:
                scores *= 0.5
            weights += d * s["vocab"]
            forward = s["batch"] * t * (2 * weights + scores)
        return 3 * PASSES * forward, 28 * weights


COPY = Work("copy, 1 GiB", "copy", bytes=1 << 30)
PRODUCT = Work("product 8192^3", "product", size=8192)
LOSS_10K = Work("R-Drop loss, 8192 x 10152", "rdrop", units=8192, classes=10152)
LOSS_32K = Work("R-Drop loss, 8192 x 32768", "rdrop", units=8192, classes=32768)
VIT = Work("ViT-B/16", "vit", **VIT_B16, attention_dropout=0)
VIT_DROPOUT = Work("ViT-B/16, attention dropout", "vit", **VIT_B16, attention_dropout=0.1)
ATTENTION = [Work(f"attention, T {s['tokens']}{', causal' if s['causal'] else ''}{', dropout' if p else ''}", "attention",
                  **s, attention_dropout=p) for s in (SHORT, LONG) for p in (0, 0.1)]
GPT = Work("LM, T 1024", "lm", **LM, attention_dropout=0)
GPT_DROPOUT = Work("LM, T 1024, attention dropout", "lm", **LM, attention_dropout=0.1)
BASE = Work("Transformer-base, 4k tokens", "transformer", **TRANSFORMER)
SMALL = Work("small ViT", "vit", **VIT_SMALL)

# Work, precision, our kind, theirs: by what they are worth. The ceilings come first.
CEILINGS = 3
ROWS = [
    (COPY, "f32", "eager", "eager"),
    (PRODUCT, "bf16", "eager", "eager"),
    (PRODUCT, "f32", "eager", "eager"),
    (LOSS_32K, "bf16", "eager", "eager"),
    (LOSS_10K, "bf16", "eager", "eager"),
    (VIT, "bf16", "eager", "eager"),
    (VIT, "bf16", "recorded", "eager"),
    *[(work, "bf16", "eager", "eager") for work in ATTENTION],
    (VIT_DROPOUT, "bf16", "eager", "eager"),
    (VIT_DROPOUT, "bf16", "recorded", "eager"),
    (GPT, "bf16", "eager", "eager"),
    (GPT, "bf16", "recorded", "eager"),
    (GPT_DROPOUT, "bf16", "eager", "eager"),
    (BASE, "bf16", "eager", "eager"),
    (BASE, "bf16", "recorded", "eager"),
    (SMALL, "bf16", "eager", "eager"),
    (SMALL, "bf16", "recorded", "eager"),
    (LOSS_32K, "f32", "eager", "eager"),
    (LOSS_10K, "f32", "eager", "eager"),
    (SMALL, "f32", "recorded", "eager"),
    (VIT, "f32", "recorded", "eager"),
    (BASE, "f32", "recorded", "eager"),
    (LOSS_32K, "bf16", "eager", "compile"),
    (LOSS_10K, "bf16", "eager", "compile"),
    (VIT, "bf16", "recorded", "compile"),
    (SMALL, "bf16", "recorded", "graph"),
    (GPT, "bf16", "recorded", "compile"),
    (BASE, "bf16", "recorded", "compile"),
    (VIT_DROPOUT, "bf16", "recorded", "compile"),
    (LOSS_32K, "f32", "eager", "compile"),
]
