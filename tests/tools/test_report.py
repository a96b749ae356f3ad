"""The page of `tandem report`: what it says, that it is whole, and how it behaves in a browser.

  test_report.py PATH_TO_TANDEM
"""

import base64
import html.parser
import json
import os
import random
import re
import shutil
import statistics
import subprocess
import sys
import time

from cases import Skip, expect, run_cases
from image_data import make_data
from webdriver import ELEMENT, HOME, LEFT, RIGHT, Browser

TANDEM = os.path.abspath(sys.argv[1])
TINY = ["--dim", "16", "--depth", "2", "--heads", "2", "--mlp-dim", "32", "--patch-size", "4", "--batch-size", "16", "--threads", "1"]
TEXT = ["--preset", "tiny", "--dim", "16", "--mlp-dim", "32", "--heads", "2", "--threads", "1", "--quiet", "--vocab-size", "30"]
USAGE, FAILED = 2, 1
VOID = {"meta", "link", "img", "br", "input", "hr"}  # elements without an end


def run(*args, status=0):
    done = subprocess.run([TANDEM, *args], capture_output=True, text=True, errors="replace", timeout=100)
    expect(done.returncode == status, f"exit status {done.returncode}, expected {status}, of {args}\n{done.stdout}{done.stderr}")
    return done


def train(run_dir, *args, data="data"):
    run("train", "vit", "--data", data, *TINY, "--epochs", "2", "--quiet", "--run", run_dir, *args)


def write(path, content):
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    with open(path, "wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)


class Page(html.parser.HTMLParser):
    """A report, parsed: elements that are not closed in order, or that a user of assistive software misses, fail."""

    def __init__(self, file):
        super().__init__()
        self.file, self.open, self.sections, self.tables, self.images, self.attributes = file, [], {}, {}, [], []
        self.scripts, self.text, self.ids, self.targets, self.buttons, self.headings = [], "", [], [], 0, []
        self.source = open(file, encoding="utf-8").read()
        self.feed(self.source)
        self.close()
        expect(not self.open, f"{file}: {self.open} are not closed")
        expect(len(set(self.ids)) == len(self.ids), f"{file}: an id twice: {self.ids}")
        expect(set(self.targets) <= set(self.ids), f"{file}: links to nothing: {self.targets}, {self.ids}")
        expect(len(self.scripts) == 2, f"{file}: {len(self.scripts)} scripts")
        expect(self.headings[0] == 1 and all(b <= a + 1 for a, b in zip(self.headings, self.headings[1:])), f"headings {self.headings}")
        self.text = re.sub(r"\s+", " ", self.text)
        self.data = json.loads(self.scripts[0])

    def handle_starttag(self, tag, pairs):
        attributes = dict(pairs)
        self.attributes += [(tag, name, value) for name, value in pairs]
        expect(len(attributes) == len(pairs), f"<{tag}> has an attribute twice: {pairs}")
        if "id" in attributes:
            self.ids.append(attributes["id"])
        if tag == "a":
            expect(attributes["href"].startswith("#"), f"a link that leaves the page: {attributes}")
            self.targets.append(attributes["href"][1:])
        if tag == "img":
            expect(attributes.get("alt"), f"an image without a text: {attributes}")
            self.images.append(attributes)
        if tag == "button":
            expect("aria-pressed" in attributes or "data-all" in attributes, f"a button without a state: {attributes}")
            self.buttons += 1
        if tag == "svg":
            expect(attributes.get("aria-hidden") == "true" or attributes.get("aria-label"), f"a picture without a text: {attributes}")
        if tag == "table":
            self.rows, self.caption, self.heads = [], "", 0
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            expect(tag == "td" or attributes.get("scope") in ("col", "row"), f"a head without a scope: {attributes}")
            self.rows[-1].append("")
            self.heads += tag == "th"
        if tag == "script":
            self.scripts.append("")
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, pairs):  # of SVG
        self.handle_starttag(tag, pairs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag):
        expect(self.open and self.open[-1] == tag, f"{self.file}: </{tag}> ends {self.open[-1:]}, line {self.getpos()[0]}")
        self.open.pop()
        if tag == "table":
            expect(self.caption and self.heads > 0, f"a table without caption or heads: {self.rows[:2]}")
            self.tables.setdefault(self.caption, []).append(self.rows)

    def handle_data(self, text):
        if "script" in self.open:
            self.scripts[-1] += text
            return
        if "style" in self.open:
            return
        self.text += text
        if "caption" in self.open:
            self.caption += text
        elif "table" in self.open and self.open[-1] not in ("tr", "thead", "tbody", "table"):
            self.rows[-1][-1] += text

    def table(self, caption, number=0):
        found = next((tables for name, tables in self.tables.items() if caption in name), None)
        expect(found, f"no table '{caption}' among {list(self.tables)}")
        return [[re.sub(r"\s+", " ", cell).strip() for cell in row] for row in found[number]]


def report(*args, page="page.html", **kwargs):
    done = run("report", *args, "-o", page, **kwargs)
    expect(done.stdout == f"Report: {page}\n", done.stdout)
    checked = Page(page)
    for tag, name, value in checked.attributes:
        expect(not name.startswith("on"), f"<{tag}> has a handler {name}")
        if name in ("src", "href", "xlink:href", "srcset", "action", "data"):
            expect(value.startswith(("data:", "#")), f"<{tag} {name}> is not of the page: {value[:80]}")
    style = checked.source.partition("<style>")[2].partition("</style>")[0]
    expect("url(" not in style and "@import" not in style and "default-src 'none'" in checked.source, "the page may ask for files")
    return checked, done


def test_one_run():
    train("run", "--passes", "2", "--alpha", "1", "--dropout", "0.3")
    run("report", "run")
    page, _ = report("run")
    expect(open("run/report.html").read() == page.source, "a report is not always the same")
    scores = json.load(open("run/scores.json"))["scores"]
    row = page.table("Scores of the best weights")
    expect(row[0][:4] == ["setting", "seeds", "test accuracy", "test CE"] and row[1][:2] == ["run", "1"], row)
    expect(abs(float(row[1][2]) - scores["test accuracy"]) < 0.01 and abs(float(row[1][3]) - scores["test CE"]) < 1e-3, row)
    steps = [json.loads(line) for line in open("run/steps.jsonl")]
    cost = page.table("What training cost")[1]
    expect(cost[2] == str(max(s["step"] for s in steps)) and cost[3] == "2", cost)
    expect(int(cost[5].split()[0].replace(",", "")) == round(max(s.get("memory_mb", 0) for s in steps)), cost)
    # The curves are the steps'.
    curves = page.data["groups"][0]["curves"]
    expect([c["key"] for c in page.data["charts"]] == ["loss", "ce", "kl", "accuracy"], page.data["charts"])
    trained = [s for s in steps if s["split"] == "train"]
    for key in "loss", "ce", "kl", "accuracy":
        drawn = curves[key]["train"]
        expect(drawn["x"] == [s["step"] for s in trained], drawn["x"])
        expect(all(abs(y - s[key]) <= 1e-4 * abs(s[key]) for y, s in zip(drawn["y"], trained)), (key, drawn))
    # What is said of the examples is what `predict` says of the files.
    files = [(label, f"data/test/{label}/{name}") for label in ("bar", "dot", "ring") for name in sorted(os.listdir(f"data/test/{label}"))]
    told = [line.split() for line in run("predict", "run", *(name for _, name in files)).stdout.splitlines()[1:]]
    classes = ["bar", "dot", "ring"]
    pairs = [(label, line[2]) for (label, _), line in zip(files, told, strict=True)]
    expect([[str(pairs.count((a, b))) for b in classes] for a in classes] == [r[1:] for r in page.table("Rows: the right class")[1:]], pairs)
    for label, scored in zip(classes, page.table("Precision, recall and F1")[2:], strict=True):
        both, predicted, right = pairs.count((label, label)), [p for _, p in pairs].count(label), [t for t, _ in pairs].count(label)
        f1 = 2 * both / (predicted + right)
        expect(scored[3] == f"{100 * f1:.1f} %" and scored[4:] == [str(right), str(predicted)], (scored, both))
    # Calibration, from the probabilities that `predict` prints.
    bins = [[] for _ in range(15)]
    for (label, guess), line in zip(pairs, told):
        p = float(line[1].rstrip("%")) / 100
        bins[min(14, int(p * 15))].append((p, label == guess))
    error = sum(abs(sum(right for _, right in b) - sum(p for p, _ in b)) for b in bins) / len(pairs)
    shown = float(re.search(r"expected calibration error ([\d.]+) %", page.text)[1])
    expect(abs(shown - 100 * error) < 0.02, (shown, error))
    expect([int(r[3]) for r in page.table("Bins of the reliability")[1:]] == [len(b) for b in bins], bins)
    # Pictures: mistakes, passes, attention beside its picture.
    mistakes = sum(a != b for a, b in pairs)
    expect(len(page.images) == min(8, mistakes) + 8 + 16, f"{len(page.images)} pictures, {mistakes} mistakes")
    for image in page.images:
        png = base64.b64decode(image["src"].removeprefix("data:image/png;base64,"), validate=True)
        size = [int.from_bytes(png[at:at + 4], "big") for at in (16, 20)]
        expect(png[:8] == b"\x89PNG\r\n\x1a\n" and size == [int(image["width"]), int(image["height"])] and size[0] in (8, 112), size)
    kl = [float(x) for x in re.findall(r"(?:in the other|in both passes) KL ([\d.]+)", page.text)]
    expect(len(kl) == 8 and kl == sorted(kl, reverse=True) and kl[0] > 0, kl)
    # Without examples there are none, and without noise no passes that disagree.
    expect("Test examples" not in report("run", "--examples", "0")[0].text, "--examples 0 shows some")
    some = report("run", "--examples", "7")[0]
    expect("7 of the 18 test images, drawn at random" in some.text, some.text)
    train("calm", "--dropout", "0")
    expect("passes disagree" not in report("calm")[0].text, "passes disagree without noise")
    train("cnn", "--model", "cnn", "--passes", "2")
    page, _ = report("cnn")
    expect("passes disagree" in page.text and "Attention" not in page.text, "a CNN has passes and no attention")


def test_seeds_and_settings():
    grid = ["sweep", "vit", "--passes", "1,2", "--alpha", "1", "--seeds", "3", "--run", "grid", "--", "--data", "data", *TINY, "--epochs", "1"]
    run(*grid)
    page, _ = report("grid")
    expect("Test examples" not in page.text, "examples of six runs, which nobody asked for")
    rows = page.table("Scores of the best weights")
    expect([r[:2] for r in rows[1:]] == [["m2-a1", "3"], ["plain", "3"]], rows)
    expect(rows[0][2:5] == ["test accuracy", "picture of test accuracy", "test CE"], rows[0])
    for row in rows[1:]:
        for column, name in (2, "test accuracy"), (4, "test CE"):
            values = [json.load(open(f"grid/{row[0]}-s{seed}/scores.json"))["scores"][name] for seed in range(3)]
            mean, deviation = statistics.mean(values), statistics.stdev(values)
            half = 4.302653 * deviation / 3**0.5  # Student's t for 2 degrees of freedom
            said = [float(x) for x in re.fullmatch(r"([\d.]+) ± ([\d.]+) (-?[\d.]+) to (-?[\d.]+)", row[column]).groups()]
            expect(all(abs(a - b) <= 0.006 for a, b in zip(said, (mean, deviation, mean - half, mean + half))), (row, said, values))
    differ = page.table("Settings that are not the same")
    expect(differ[0] == ["setting", "alpha", "passes"] and differ[1][1:] == ["1", "2"] and differ[2][1:] == ["–", "1"], differ)
    expect([r[0] for r in page.table("Every run")[1:]] == [f"{name}-s{seed}" for name in ("m2-a1", "plain") for seed in range(3)], "every run")
    ce = page.data["groups"][1]["curves"]["ce"]["valid"]
    ends = [float(line.split(",")[4]) for seed in range(3) for line in open(f"grid/plain-s{seed}/metrics.csv") if ",valid," in line]
    expect(abs(ce["y"][-1] - statistics.mean(ends)) < 1e-4 and abs(ce["low"][-1] - min(ends)) < 1e-4, (ce, ends))
    # The same training twice, or named twice, is one measurement.
    shutil.copytree("grid/plain-s0", "grid/again")
    twice = report("grid/plain-s0", "grid/plain-s0", "grid/again", "--examples", "0")[0].table("Scores of the best weights")
    expect(twice[1][1] == "1" and "±" not in " ".join(twice[1]), twice)


def test_comparison():
    train("pair", "--passes", "2", "--alpha", "2", "--compare")
    page, _ = report("pair")
    rows = page.table("Scores of the best weights")
    expect([r[0] for r in rows[1:]] == ["plain", "rdrop"], rows)
    differ = page.table("Settings that are not the same")
    expect(differ == [["setting", "alpha", "passes"], ["plain", "–", "1"], ["rdrop", "2", "2"]], differ)
    expect("Test examples: plain" in page.text and "Test examples: rdrop" in page.text, "both have examples")
    half = report("pair/rdrop", "--examples", "0")[0]
    expect(half.table("Scores of the best weights")[1][2] == rows[2][2], (half.tables, rows))


def test_what_is_missing_or_damaged():
    def fails(*args, says, status=FAILED):
        done = run("report", *args, "-o", "none.html", status=status)
        lines = done.stderr.splitlines()
        expect(len(lines) == 1 and lines[0].startswith("tandem: ") and done.stdout == "" and not os.path.exists("none.html"), (done.stdout, lines))
        expect(all(part in lines[0] for part in says), f"expected {says} in {lines[0]}")

    train("run")
    fails("nowhere", says=["nowhere: there is no such run folder"])
    fails("data", says=["data: not a run: expected the folder of a training"])
    shutil.copytree("run", "bare")
    for name in "steps.jsonl", "scores.json":
        os.remove(f"bare/{name}")
    shutil.rmtree("data")
    page, done = report("bare")
    for part in "steps.jsonl is missing", "scores.json is missing", "its test examples cannot be shown":
        expect(part in page.text, f"no word of '{part}'")
    expect(done.stderr.startswith("warning: bare: no test examples: "), done.stderr)
    expect(len(page.data["groups"][0]["curves"]["ce"]["train"]["x"]) == 2, "no curve by epochs")
    fails("run", "--examples", "5", says=["data"], status=USAGE)
    with open("run/steps.jsonl", "a") as file:
        file.write('{"step": 9, "spl')  # a run that was killed, or that is writing
    report("run", "--examples", "0")
    for name, damage, says in [("steps.jsonl", '{"step": 1, "split": "train"}\n{"step": }\n', ["steps.jsonl: line 2: expected a step"]),
                               ("scores.json", '{"scores": 3}', ["scores.json: expected the scores"]),
                               ("metrics.csv", "epoch,step\n1,2\n", ["metrics.csv"]),
                               ("settings.toml", "epochs = \n", ["settings.toml"])]:
        shutil.copytree("run", "damaged")
        write(f"damaged/{name}", damage)
        fails("damaged", "--examples", "0", says=says)
        shutil.rmtree("damaged")
    shutil.copytree("run", "damaged")
    content = bytearray(open("damaged/best.safetensors", "rb").read())
    content[-1] ^= 1
    write("damaged/best.safetensors", bytes(content))
    fails("damaged", "--examples", "5", says=["best.safetensors"])
    expect("best.safetensors" in report("damaged")[0].text, "no word of damaged weights")
    done = run("report", "run", "--examples", "0", "-o", "nowhere/page.html", status=FAILED)
    expect("nowhere/page.html" in done.stderr, done.stderr)


HOSTILE = ['"><img src=x onerror=alert(1)>', "it's <b>&amp;", "</script><script>alert(2)<"]


def test_escapes():
    names = [HOSTILE[0], HOSTILE[1], "@STYLE@ @BODY@"]
    make_data("strange", classes=names)
    train("a\"><script>alert(3)<", "--passes", "2", data="strange")
    page, _ = report("a\"><script>alert(3)<")
    expect([r[0] for r in page.table("Rows: the right class")[1:]] == sorted(names), page.table("Rows: the right class"))
    expect(page.data["groups"][0]["name"] == 'a"><script>alert(3)<', page.data["groups"][0]["name"])
    draw = random.Random(1)
    for split, count in ("train", 60), ("valid", 12), ("test", 12):
        write(f"texts/{split}.tsv", "".join(f"{HOSTILE[i % 3]}\t{HOSTILE[draw.randrange(3)]} a\x01b\n" for i in range(count)))
    run("train", "classify", "--data", "texts", *TEXT, "--vocab-size", "60", "--epochs", "1", "--run", "text")
    page, _ = report("text")
    expect("a\N{REPLACEMENT CHARACTER}b" in page.text and HOSTILE[2] in page.text, "the texts are not shown as they are")


def test_texts():
    draw = random.Random(2)
    letters = lambda: " ".join(draw.choice("abcdefgh") * draw.randint(1, 2) for _ in range(draw.randint(1, 5)))
    for split, count in ("train", 60), ("valid", 10), ("test", 14):
        write(f"labels/{split}.tsv", "".join(f"{'first' if i % 2 else 'second'}\t{letters()}\n" for i in range(count)))
        write(f"scores/{split}.tsv", "".join(f"{i % 5}.5\t{letters()}\t{letters()}\n" for i in range(count)))
        write(f"pairs/{split}.tsv", "".join(f"{letters()}\t{letters()}\n" for _ in range(count)))
        write(f"tags/{split}.conll", "".join("".join(f"{word} {'B-x' if 'a' in word else 'O'}\n" for word in letters().split()) + "\n"
                                             for _ in range(count)))
    run("train", "classify", "--data", "labels", *TEXT, "--epochs", "1", "--passes", "2", "--run", "classes")
    page, _ = report("classes")
    expect("All 14 test texts" in page.text and "passes disagree most" in page.text and not page.images, page.text)
    run("train", "tag", "--data", "tags", *TEXT, "--epochs", "1", "--passes", "2", "--run", "tagged")
    page, _ = report("tagged")
    words = sum(len(line) > 1 for line in open("tags/test.conll"))
    expect(f"All {words} test words" in page.text and re.search(r"\[[a-h]+\]", page.text), page.text)
    scores = json.load(open("tagged/scores.json"))["scores"]
    expect(f"{scores['word accuracy']:.2f} % right" in page.text, (scores, page.text))
    expect([chart["title"] for chart in page.data["charts"]][1] == "Cross-entropy", page.data["charts"])
    run("train", "similarity", "--data", "scores", *TEXT, "--epochs", "1", "--passes", "2", "--run", "alike")
    page, _ = report("alike")
    expect([chart["title"] for chart in page.data["charts"]] == ["Training loss", "Squared error", "Squared difference of the passes", "Spearman"]
           and "Test examples" not in page.text, page.data["charts"])
    run("train", "translate", "--data", "pairs", *TEXT, "--epochs", "1", "--run", "translated")
    page, _ = report("translated")
    listed = [float(x) for x in re.findall(r"chrF([\d.]+)", re.sub(r"\s+", "", page.text.partition("Worst of 14 pairs")[2]))]
    expect(len(listed) == 8 and listed == sorted(listed), (listed, page.text))


def test_many_runs():
    """A benchmark: printed, not checked."""
    train("first", "--passes", "2")
    lines = [json.loads(line) for line in open("first/steps.jsonl") if '"train"' in line]
    for seed in range(20):
        shutil.copytree("first", f"many/run-{seed}")
        for name in "manifest.sha256", "settings.toml":
            os.rename(f"many/run-{seed}/{name}", f"many/run-{seed}/old-{name}")
        settings = open(f"many/run-{seed}/old-settings.toml").read()
        write(f"many/run-{seed}/settings.toml", re.sub(r"(?m)^seed = .*", f"seed = {seed % 4}", re.sub(r"(?m)^alpha = .*", f"alpha = {seed // 4}", settings)))
        write(f"many/run-{seed}/steps.jsonl", "".join(json.dumps({**lines[i % len(lines)], "step": i + 1}) + "\n" for i in range(5000)))
    before = os.times()
    start = time.time()
    page, _ = report(*(f"many/run-{seed}" for seed in range(20)))
    now = os.times()
    spent = now.children_user + now.children_system - before.children_user - before.children_system
    print(f"        20 runs of 5000 steps: {spent:.2f} s of the processor, {time.time() - start:.2f} s, a page of {len(page.source) / 1e3:.0f} kB")
    expect([r[1] for r in page.table("Scores of the best weights")[1:]] == ["4"] * 5, "five settings of four seeds")
    expect(max(len(c[s]["x"]) for g in page.data["groups"] for c in g["curves"].values() for s in c) <= 401, "long curves")


CONTRAST = r"""
const parse = (text) => {
  const parts = text.match(/-?[\d.]+(e-?\d+)?/g).map(Number), unit = text.startsWith("color(srgb") ? 255 : 1;
  return [...parts.slice(0, 3).map((x) => x * unit), parts[3] ?? 1];
};
const over = (top, below) => top.slice(0, 3).map((x, i) => x * top[3] + below[i] * (1 - top[3]));
const light = (color) => {
  const [r, g, b] = color.map((x) => (x /= 255) <= 0.03928 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const bad = [];
let checked = 0;
for (const element of document.body.querySelectorAll("*")) {
  if (!element.checkVisibility() || element.closest(".hidden") || ["SCRIPT", "STYLE"].includes(element.tagName)) continue;
  if (![...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim())) continue;
  const chain = [];
  for (let at = element; at; at = at.parentElement) chain.unshift(getComputedStyle(at));
  let ground = [255, 255, 255];
  for (const style of chain) ground = over(parse(style.backgroundColor), ground);
  const style = chain.at(-1), opacity = chain.reduce((all, each) => all * each.opacity, 1);
  const ink = parse(element instanceof SVGElement ? style.fill : style.color);
  const [a, b] = [light(over([...ink.slice(0, 3), ink[3] * opacity], ground)), light(ground)];
  const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), size = parseFloat(style.fontSize);
  ++checked;
  if (ratio < (size >= 24 || (size >= 18.66 && style.fontWeight >= 700) ? 3 : 4.5))
    bad.push(`${element.tagName}.${element.getAttribute("class")} '${element.textContent.trim().slice(0, 30)}': ${ratio.toFixed(2)}`);
}
return [checked, bad];
"""

GRAPHICS = r"""
const root = getComputedStyle(document.documentElement), probe = document.body.appendChild(document.createElement("i"));
const light = (name) => {
  probe.style.color = root.getPropertyValue(name);
  const [r, g, b] = getComputedStyle(probe).color.match(/[\d.]+/g).map((x) => (x /= 255) <= 0.03928 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const page = light("--page");
const ratios = [0, 1, 2, 3, 4, 5, 6, 7].map((i) => light(`--c${i}`)).map((x) => (Math.max(x, page) + 0.05) / (Math.min(x, page) + 0.05));
probe.remove();
return ratios;
"""


def test_in_a_browser():
    with Browser() as browser:
        train("pair", "--passes", "2", "--compare")
        report("pair", page="pair.html")
        make_data("strange", classes=HOSTILE[:2] + ["ring"])
        train("hostile <img src=x onerror=alert(4)>", "--passes", "2", data="strange")
        train("plain", "--lr", "0.01")
        report("hostile <img src=x onerror=alert(4)>", "pair", "plain", "--examples", "18", page="all.html")
        for width in 375, 1280:
            for dark in False, True:
                check_in_browser(browser, "pair.html", width, dark)
        check_in_browser(browser, "all.html", 375, dark=True)


def check_in_browser(browser, file, width, dark):
    what = f"{file} at {width} {'dark' if dark else 'light'}"
    browser.open(file, width, dark=dark)
    browser.script("window.failures = []; addEventListener('error', (event) => failures.push(String(event.message)));")
    expect(browser.errors() == [], f"{what}: the console has errors")
    expect(browser.script("return matchMedia('(prefers-color-scheme: dark)').matches") == dark, f"{what}: the scheme was not set")
    expect(browser.script("return innerWidth") == width, f"{what}: {browser.script('return innerWidth')} pixels")
    for details in browser.elements("summary"):
        browser.click(details)

    def no_overflow(when):
        wide = browser.script("return document.documentElement.scrollWidth")
        expect(wide <= width, f"{what}, {when}: the page is {wide} pixels wide: " + str(browser.script(
            "return [...document.querySelectorAll('body *')].filter((e) => e.getBoundingClientRect().right > innerWidth + 1 && "
            "!e.closest('.scroll')).map((e) => `${e.tagName}.${e.className}`).slice(0, 5)")))

    no_overflow("opened")
    checked, bad = browser.script(CONTRAST)
    expect(checked > 100 and bad == [], f"{what}: of {checked} texts too little contrast: {bad[:5]}")
    expect(min(browser.script(GRAPHICS)) >= 3, f"{what}: curves of too little contrast: {browser.script(GRAPHICS)}")
    # The legend: a click hides a group's curves in every chart, the next one shows them again.
    curves = lambda: browser.script("return [...document.querySelectorAll('.chart')].map((c) => c.querySelectorAll('path.curve').length)")
    before = curves()
    expect(len(before) == 4 and all(n >= 2 for n in before), f"{what}: curves {before}")
    for button in browser.elements("button[aria-pressed]"):
        pressed = lambda: browser.script("return arguments[0].getAttribute('aria-pressed')", {ELEMENT: button})
        browser.click(button)
        expect(pressed() == "false" and sum(curves()) < sum(before), f"{what}: a click on the legend hides nothing: {curves()}")
        browser.click(button)
        expect(pressed() == "true" and curves() == before, f"{what}: curves {curves()} are not {before}")
    for button in browser.elements("button[aria-pressed]"):
        browser.click(button)
    expect(sum(curves()) == 0 and "nothing is chosen" in browser.script("return document.querySelector('.plot').textContent"), f"{what}: {curves()}")
    for button in browser.elements("button[aria-pressed]"):
        browser.click(button)
    for all_of, left in zip(browser.elements("button[data-all=false], button[data-all=true]"), (before, [0] * 4)):
        browser.click(all_of)
        expect(curves() == left, f"{what}: all and none leave {curves()}")
        browser.click(browser.elements("button[data-all=true]")[0])
    dimmed = "return document.querySelectorAll('.plot .dim').length"
    faded = browser.script("const b = document.querySelector('button[data-group]'); b.blur(), b.focus(); " + dimmed)
    expect(faded > 0 and browser.script("document.activeElement.blur(); " + dimmed) == 0, f"{what}: {faded} curves fade")
    # The keyboard reaches the values.
    value = lambda: browser.script("return document.querySelector('.plot').getAttribute('aria-valuetext')")
    plot = browser.elements(".plot")[0]
    browser.keys(plot, HOME)
    first = value()
    expect(first.startswith("step 1;") and "training" in first, f"{what}: {first}")
    browser.keys(plot, LEFT)
    expect(value() == first, f"{what}: before the first step there is another")
    browser.keys(plot, RIGHT)
    expect(value() != first and browser.script("return document.querySelectorAll('.tip').length") == 1, f"{what}: {value()}")
    # So does the pointer, and the values stay on the page.
    for share in 0.2, 0.98:
        x, y = browser.script("const r = document.querySelectorAll('.plot')[1]; r.scrollIntoView({block: 'center', behavior: 'instant'}); "
                              "const b = r.getBoundingClientRect(); return [Math.round(b.left + b.width * arguments[0]), Math.round(b.top + b.height / 2)]", share)
        browser.post("/actions", actions=[{"type": "pointer", "id": "mouse", "parameters": {"pointerType": "mouse"},
                                           "actions": [{"type": "pointerMove", "x": x, "y": y, "origin": "viewport", "duration": 0}]}])
        tip = browser.script("const b = document.querySelectorAll('.plot')[1].querySelector('.tip')?.getBoundingClientRect(); return b && [b.left, b.right]")
        expect(tip and tip[0] >= 0 and tip[1] <= width, f"{what}: values at {tip}")
        no_overflow("pointed at")
    asked = browser.script("return performance.getEntriesByType('resource').map((e) => e.name).filter((n) => !n.startsWith('data:'))")
    expect(asked == [], f"{what}: the page asks for {asked}")
    said = browser.errors() + browser.script("return failures")
    expect(said == [], f"{what}: script errors: {said}")


run_cases(globals(), lambda: make_data("data"))
