#!/usr/bin/env python3
"""Every measured figure stands once in the Markdown files. Argument: the source folder.

Two lines that have figures in common, of eight digits in all, say the same thing twice: of numbers with a decimal point and
three significant digits at least, in tables, in what programs print and in sentences; the blocks ```output, which
tests/docs/code.py compares with what is printed, are left out. A table may sum up other pages: the figures of a row that links
to one, or has such a row above it, are that page's, perhaps rounded, but those of a column called "paper". Sentences may
explain what a program printed above them. "A to B times", in a paragraph with links, are figures of the linked pages.
"""

import re
import sys
from itertools import combinations
from pathlib import Path

NUMBER = re.compile(r"(?<![\w.,/^-])\d[\d,]*\.\d+(?![\w.]*\d)")
LEAST = 8  # significant digits in common


def digits(number):
    return len(re.sub(r"[.,]", "", number).lstrip("0"))


def lines_of(text):
    """Number and text of each line that may have figures."""
    block = None
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("```"):
            block = line[3:] if block is None else None
        elif block not in ("output", "cpp", "cpp global", "sh"):
            yield number, re.sub(r"`[^`]*`|arXiv [\d.]+", "", line) if block is None else line


def figures(line):
    return {n for n in NUMBER.findall(re.sub(r"\]\([^)]*\)", "]", line)) if digits(n) >= 3}


def summaries(page, text, pages):
    """Line number, figures and the page they are from, of the rows that sum up another page."""
    linked, paper = None, None
    for number, line in lines_of(text):
        cells = line.split("|")
        paper = paper if line.startswith("|") and paper else next((i for i, c in enumerate(cells) if c.strip() == "paper"), None)
        line = "|".join(c for i, c in enumerate(cells) if i != paper)
        links = re.findall(r"\]\(([\w/.-]+\.md)[^)]*\)", line) if line.startswith("|") else []
        linked = (page.parent / links[0]).resolve() if links else linked if line.startswith("|") else None
        if linked in pages and linked != page and figures(line):
            yield number, figures(line), linked


def among(number, page):
    """Whether it is a figure of that page, perhaps rounded."""
    value, half = float(number.replace(",", "")), 0.5001 * 10 ** -len(number.partition(".")[2])
    return any(abs(value - float(n.replace(",", ""))) <= half for _, line in lines_of(page) for n in NUMBER.findall(line))


def ranges(page, text, pages):
    """Figures of sentences "A to B times", and the pages that their paragraph links to."""
    for paragraph in text.split("\n\n"):
        linked = [(page.parent / link).resolve() for link in re.findall(r"\]\(([\w/.-]+\.md)", paragraph)]
        for found in re.findall(r"([\d.]+) to ([\d.]+)\s+times", paragraph) if linked else []:
            yield found, [p for p in linked if p in pages]


def repeats(pages):
    """Messages about figures that stand twice, and about summaries that say what their page does not."""
    found, summed = [], {}
    for page, text in pages.items():
        for number, here, linked in summaries(page, text, pages):
            summed[page, number] = linked
            found += [f"{page.name}:{number}: {n} is not in {linked.name}" for n in here if not among(n, pages[linked])]
        for numbers, linked in ranges(page, text, pages):
            found += [f"{page.name}: {n} times: not in {linked[0].name}" for n in numbers if not any(among(n, pages[p]) for p in linked)]
    places = {}
    for page, text in pages.items():
        shown = text.splitlines()
        blocks = {number for number, _ in lines_of(text) if sum(line.startswith("```") for line in shown[:number]) % 2}
        for number, line in lines_of(text):
            kind = "printed" if number in blocks else "row" if line.startswith("|") else "sentence"
            for n in figures(line):
                places.setdefault(n, []).append((page, number, kind))
    common = {}
    for n, where in places.items():
        for pair in combinations(where, 2):
            common.setdefault(pair, set()).add(n)
    for (a, b), shared in common.items():
        explained = a[0] == b[0] and {a[2], b[2]} == {"printed", "sentence"}
        if sum(map(digits, shared)) >= LEAST and not explained and summed.get(a[:2]) != b[0] and summed.get(b[:2]) != a[0]:
            found.append(f"{a[0].name}:{a[1]} and {b[0].name}:{b[1]} both have {', '.join(sorted(shared))}")
    return found


def main(root):
    pages = {p: p.read_text() for p in sorted(root.glob("**/*.md")) if not p.relative_to(root).parts[0].startswith(("build", "."))}
    found = repeats(pages)
    # What this would not notice is no check: any row of a table, once more on another page, or changed where it is summed up.
    missed, planted = [], 0
    other = root / "CONTRIBUTING.md"
    for page, text in pages.items():
        for number, line in lines_of(text):
            if page == other or not line.startswith("|") or sum(map(digits, figures(line))) < LEAST:
                continue
            planted += 1
            if len(repeats({page: text, other: pages[other] + "\n" + line + "\n"})) <= len(repeats({page: text, other: pages[other]})):
                missed.append(f"{page.name}:{number}: a second one would not be noticed")
    changed = 0
    for page, text in pages.items():
        sums = [(n, linked, rf"(?m)^\|.*(?<![\d.]){re.escape(n)}") for _, here, linked in summaries(page, text, pages) for n in here]
        sums += [(n, linked[0], rf"\b{re.escape(n)}(?= to|\s+times)") for numbers, linked in ranges(page, text, pages) for n in numbers]
        for n, linked, where in sums:
            changed += 1
            other_text = re.sub(where, lambda m: m[0][: -len(n)] + "7" + n, text)
            if not any(f"7{n}" in f for f in repeats({page: other_text, linked: pages[linked]})):
                missed.append(f"{page.name}: 7{n} in place of {n}, which is {linked.name}'s, would not be noticed")
    print("\n".join(found + missed))
    print(f"{len(pages)} pages, {len(found)} figures stand twice or are wrong; "
          f"{planted} rows planted and {changed} figures changed, {len(missed)} missed")
    sys.exit(bool(found or missed) or planted < 20 or changed < 10)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
