#!/usr/bin/env python3
"""Golden values of the scores of tags and of sets of labels, in labels.json beside this file.

    pip install seqeval==1.2.2 scikit-learn==1.9.1
    tests/golden/make_labels.py

Cases are drawn from fixed seeds: the same versions give the same file. Nothing here is needed to build or test.
"""

import json
import pathlib
import random
import warnings

import sklearn.metrics
from seqeval.metrics import f1_score, precision_score, recall_score
from seqeval.metrics.sequence_labeling import get_entities

warnings.simplefilter("ignore")

TAGS = {"BIO": ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"],
        "BIOES": [f"{t}-{name}" for t in "BIES" for name in ("PER", "LOC-x")] + ["O"],
        "odd": ["O", "B", "I", "E", "S", "B-", "I-PER", "O-PER", "X-PER", ".", "B-PER"],
        "noun": ["O", "B-noun.act", "I-noun.act", "B-noun.animal", "I-verb.body"]}
FIXED = [([["O"]], [["O"]]), ([["O"]], [["B-A"]]), ([["B-A"]], [["O"]]), ([["B-A", "I-A"]], [["B-A", "I-A"]]),
         ([["I-A", "I-A"]], [["B-A", "I-A"]]), ([["B-A", "B-A"]], [["B-A", "I-A"]]),
         ([["I-A", "I-B"]], [["I-A", "B-B"]]), ([["S-A", "E-A"]], [["S-A", "S-A"]]),
         ([["B-A", "I-A"], ["I-A", "O"]], [["B-A", "I-A"], ["B-A", "O"]]), ([[], ["B-A"]], [[], ["B-A"]])]


def tag_cases():
    cases = list(FIXED)
    for scheme, tags in TAGS.items():
        for seed in range(12):
            draw = random.Random(f"{scheme}/{seed}")
            target = [[draw.choice(tags) for _ in range(draw.randint(1, 9))] for _ in range(draw.randint(1, 12))]
            share = draw.choice([0.0, 0.5, 0.9])
            cases.append(([[t if draw.random() < share else draw.choice(tags) for t in s] for s in target], target))
    for predicted, target in cases:
        macro = float(f1_score(target, predicted, average="macro"))  # NaN where there is no type at all
        yield {"predicted": predicted, "target": target,
               "entities": [[[t, b, e + 1] for t, b, e in get_entities(s)] for s in target],
               "precision": float(precision_score(target, predicted)), "recall": float(recall_score(target, predicted)),
               "f1": float(f1_score(target, predicted)), "macro_f1": macro if macro == macro else 0.0}


def label_cases():
    for seed in range(30):
        draw = random.Random(seed)
        samples, classes = draw.choice([1, 2, 5, 40]), draw.choice([1, 2, 3, 9])
        rare = draw.choice([0.0, 0.1, 0.5, 1.0])
        target = [[int(draw.random() < rare) for _ in range(classes)] for _ in range(samples)]
        scores = [[round(draw.gauss(2 * t - 1, 1.5), draw.choice([0, 3])) for t in row] for row in target]
        predicted = [[int(x > 0) for x in row] for row in scores]
        y, p = (target, predicted) if classes > 1 else ([r[0] for r in target], [r[0] for r in predicted])
        f1 = lambda average: float(sklearn.metrics.f1_score(y, p, average=average, zero_division=0))
        mean = [sklearn.metrics.average_precision_score([r[c] for r in target], [r[c] for r in scores])
                for c in range(classes)]
        yield {"scores": scores, "target": target, "exact": float(sklearn.metrics.accuracy_score(y, p)),
               "micro_f1": f1("micro") if classes > 1 else f1("binary"),
               "macro_f1": f1("macro") if classes > 1 else f1("binary"), "map": float(sum(mean) / classes)}


if __name__ == "__main__":
    groups = {"tags": tag_cases(), "labels": label_cases()}
    lines = [f'"{name}": [\n' + ",\n".join(json.dumps(case) for case in cases) + "\n]" for name, cases in groups.items()]
    pathlib.Path(__file__).resolve().with_name("labels.json").write_text("{" + ",\n".join(lines) + "}\n")
