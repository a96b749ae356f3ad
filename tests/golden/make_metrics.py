#!/usr/bin/env python3
"""Golden values of the metrics from their reference implementations, in metrics.json beside this file.

    pip install sacrebleu==2.6.0 rouge-score==0.1.2 scipy scikit-learn
    tests/metrics/golden/make_metrics.py

Cases are drawn from fixed seeds: the same versions give the same file. Nothing here is needed to build or test.
"""

import json
import os
import random
import warnings

import numpy
import scipy.stats
import sklearn.metrics
from rouge_score import rouge_scorer
from sacrebleu.metrics import BLEU, CHRF

warnings.simplefilter("ignore")

WORDS = ("the a of package library server for and or files image 3.14 1,000 2-3 e-mail don't C++ (GNU) \"free\" "
         "Überprüfung caffè naïve 日本語 пакет &quot;x&quot; &amp; &lt;tag&gt; hello, world. end; U.S. $5 50% #1 @home "
         "[x] {y} a/b x_y ~ ^ |").split()
# Hypotheses, and lists of references.
TEXTS = {
    "identical": (["The cat sat on the mat."], [["The cat sat on the mat."]]),
    "no overlap": (["one two three four five"], [["six seven eight nine ten"]]),
    "empty hypothesis": ([""], [["The cat sat on the mat."]]),
    "empty reference": (["The cat sat on the mat."], [[""]]),
    "both empty": ([""], [[""]]),
    "blank": (["   \t "], [["  "]]),
    "one empty of three": (["the cat sat on it", "", "a dog ran over there"],
                           [["the cat sat on that", "a bird", "a dog ran over here"]]),
    "one token": (["cat"], [["cat"]]),
    "two tokens": (["the cat"], [["the cat sat"]]),
    "three tokens": (["the cat sat"], [["the cat sat"]]),
    "four tokens": (["the cat sat down"], [["the cat sat down"]]),
    "no 4-gram matches": (["the cat sat on a mat"], [["the cat sat by a mat"]]),
    "only unigrams match": (["mat the on sat cat"], [["cat on the sat mat"]]),
    "short beside long": (["yes", "the quick brown fox jumps over the lazy dog"],
                          [["no", "the quick brown fox jumped over the lazy dog"]]),
    "case": (["The Cat SAT on the mat"], [["the cat sat on the mat"]]),
    "too short": (["the cat sat on"], [["the cat sat on the mat in the sun"]]),
    "too long": (["the cat sat on the mat in the sun all day"], [["the cat sat on the mat"]]),
    "clipped": (["the the the the the the the"], [["the cat is on the mat", ], ["there is a cat on the mat"]]),
    "entities": (["&quot;a&quot; &amp; b &lt;c&gt; d &amp;lt; e"], [["\"a\" & b <c> d &lt; e"]]),
    "unknown entities": (["&copy; &#39;x&#39; a & b"], [["&copy; 'x' a & b"]]),
    "skipped": (["a <skipped> b c d <skip<skipped>ped> e"], [["a b c d e f"]]),
    "numbers": (["3.14 and 1,000.5 or 2-3, .5 5. 6,"], [["3.14 and 1,000.5 or 2 - 3, .5 5. 6,"]]),
    "stops": (["a.b.c ...,,, x. .y 1.a a.1 .. , ."], [["a . b.c ..., x . y 1. a a .1"]]),
    "dashes": (["1-2-3 a-1 1-a -- 5- -5"], [["1 -2-3 a-1 1 - a -- 5- -5"]]),
    "symbols": (["!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"], [["! \" # $ % & ' ( ) * + , - . / : ; < = > ? @ [ \\ ] ^ _ ` { | } ~"]]),
    "accents": (["Überprüfung, naïve café. Ende"], [["Überprüfung naïve café. Ende."]]),
    "characters beside stops": (["é. ü, 語。語. «x», …. 5é-6 é,5 5,é"], [["é . ü , 語 。語. «x» , … . 5é-6 é, 5 5, é"]]),
    "Chinese": (["今天 天气 很 好 。"], [["今天 天气 非常 好 。"]]),
    "Cyrillic": (["Быстрая коричневая лиса прыгает"], [["Быстрая лиса прыгает высоко"]]),
    "emoji": (["good 😀 👍🏽 day to you"], [["good 👍🏽 😀 day to you all"]]),
    "combining": (["cafe\u0301 au lait maintenant"], [["café au lait maintenant"]]),
    "no-break spaces": (["a\u00a0b c\u202fd\u2009e f\u3000g"], [["a b c d e f g"]]),
    "other white space": (["a\u0085b\u1680c\u2028d\u205fe\x1cf\x1fg\x0bh\ti"], [["a b c d e f g h i"]]),
    "not white space": (["a\u200bb c\ufeffd e\u180ef g h"], [["a b c d e f g h"]]),
    "blanks around": (["  the cat  sat on   the mat  "], [["the cat sat on the mat"]]),
    "line ends": (["over-\nlap of two\nlines here-\n"], [["overlap of two lines here-"]]),
    "Kelvin": (["5 \u212A and a\u212Ab \u0130x \u0130stanbul \u212Bngstrom"], [["5 k and akb i x i stanbul ngstrom"]]),
    "digits of other scripts": (["٣.٤ and ५-६ x²- ①."], [["٣ . ٤ and ५ - ६ x² - ① ."]]),
    "two references": (["the cat sat on the mat"], [["a cat sat on the mat"], ["the cat is on a mat"]]),
    "nearest length ties": (["a b c d e"], [["a b c d e f g"], ["a b c"], ["a b c d"]]),
    "second reference empty": (["a b c d e", "f g h i"], [["a b c d", "f g h j"], ["", "f g h i"]]),
    "three references": (["it is a guide to action which ensures that the military always obeys",
                          "he read the book because he was interested"],
                         [["it is a guide to action that ensures that the military will forever heed", "he was interested because he read the book"],
                          ["it is the guiding principle which guarantees the military forces", "he read the book out of interest"],
                          ["it is the practical guide for the army always to heed", "he had read it"]]),
}


def drawn_text(draw, low=0):
    return " ".join(draw.choice(WORDS) for _ in range(draw.randint(low, 14)))


def changed(draw, text):
    words = [w for w in text.split(" ") if draw.random() > 0.15]
    return " ".join(draw.choice(WORDS) if draw.random() < 0.2 else w for w in words)


def drawn_texts():
    for seed in range(20):
        draw = random.Random(seed)
        reference = [drawn_text(draw) for _ in range(draw.randint(1, 8))]
        references = [reference] + [[changed(draw, r) for r in reference] for _ in range(seed % 3)]
        yield f"drawn {seed}", ([changed(draw, r) for r in reference], references)


def text_cases():
    scorer = rouge_scorer.RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=False)
    for name, (hypotheses, references) in list(TEXTS.items()) + list(drawn_texts()):
        bleu = BLEU()
        score = bleu.corpus_score(hypotheses, references)
        chrf, chrf_words = CHRF(), CHRF(word_order=2)
        rouge = [scorer.score(r, h) for h, r in zip(hypotheses, references[0])]
        yield {"name": name, "hypotheses": hypotheses, "references": references,
               "tokens": [bleu._preprocess_segment(h).split() for h in hypotheses],
               "bleu": {"score": score.score, "precisions": score.precisions, "bp": score.bp,
                        "lengths": [score.sys_len, score.ref_len],
                        "signature": str(bleu.get_signature()).rsplit("|version:", 1)[0]},
               "chrf": {"score": chrf.corpus_score(hypotheses, references).score,
                        "signature": str(chrf.get_signature()).rsplit("|version:", 1)[0]},
               "chrf++": {"score": chrf_words.corpus_score(hypotheses, references).score,
                          "signature": str(chrf_words.get_signature()).rsplit("|version:", 1)[0]},
               "rouge": {k: 100 * float(numpy.mean([r[k].fmeasure for r in rouge])) for k in ("rouge1", "rouge2", "rougeL")}}


def class_cases():
    fixed = [([0], [0]), ([0], [1]), ([1, 1, 1], [1, 1, 1]), ([1, 1, 1], [0, 0, 0]), ([0, 1, 1], [1, 1, 1]),
             ([1, 1, 1], [0, 1, 1]), ([0, 1, 0, 1], [0, 1, 0, 1]), ([0, 1, 0, 1], [1, 0, 1, 0]), ([0, 0, 1, 1], [0, 1, 0, 1]),
             ([0, 0, 0, 2], [0, 1, 0, 2]), ([3, 3, 3], [0, 1, 2]), ([0, 1, 2], [3, 3, 3]), ([-1, 7, 7], [-1, -1, 7]),
             ([0, 1, 2, 3], [1, 2, 3, 0]), ([2, 2, 2, 2, 0], [2, 2, 2, 2, 2])]
    for seed in range(25):
        draw = random.Random(seed)
        classes, count = draw.choice([2, 2, 3, 5, 41]), draw.choice([2, 5, 30, 300])
        target = [draw.randrange(classes) for _ in range(count)]
        fixed.append(([t if draw.random() < 0.6 else draw.randrange(classes) for t in target], target))
    for predicted, target in fixed:
        yield {"predicted": predicted, "target": target, "accuracy": float(sklearn.metrics.accuracy_score(target, predicted)),
               "macro_f1": float(sklearn.metrics.f1_score(target, predicted, average="macro", zero_division=0)),
               "matthews": float(sklearn.metrics.matthews_corrcoef(target, predicted))}


def number_cases():
    fixed = [([1, 2], [1, 2]), ([1, 2], [2, 1]), ([1, 2, 3], [1, 2, 3]), ([1, 2, 3], [1, 4, 9]), ([1, 2, 3], [3, 2, 1]),
             ([1, 1, 2], [1, 2, 2]), ([1, 1, 1, 2], [2, 1, 1, 1]), ([0.1, 0.1, 0.2], [0.3, 0.1, 0.2]), ([0, 0, 1, 1], [0, 1, 0, 1]),
             ([1e200, 2e200, -1e200], [1, 3, 2]), ([1e-200, 2e-200, -1e-200], [1, 3, 2]), ([1e6, 1e6 + 1, 1e6 + 3], [1, 2, 5])]
    for seed in range(25):
        draw = random.Random(seed)
        count, ties = draw.choice([3, 10, 100]), seed % 2 == 0
        a = [draw.gauss(2, 3) for _ in range(count)]
        b = [x * draw.choice([-1, 1, 1]) + draw.gauss(0, 2) for x in a]
        fixed.append(([float(round(x)) for x in a], [float(round(x)) for x in b]) if ties else (a, b))
    for a, b in fixed:
        if len(set(a)) == 1 or len(set(b)) == 1:
            continue
        yield {"a": a, "b": b, "pearson": float(scipy.stats.pearsonr(a, b)[0]), "spearman": float(scipy.stats.spearmanr(a, b)[0])}


if __name__ == "__main__":
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "metrics.json"), "w") as out:
        groups = {"texts": text_cases(), "classes": class_cases(), "numbers": number_cases()}
        lines = [f'"{name}": [\n' + ",\n".join(json.dumps(case) for case in cases) + "\n]" for name, cases in groups.items()]
        out.write("{" + ",\n".join(lines) + "}\n")
