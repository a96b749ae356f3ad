#!/usr/bin/env python3
"""Every measured figure stands once in the Markdown files. Argument: the source folder.

Two lines that have figures in common, of eight digits in all, say the same thing twice: of numbers with a decimal point and
three significant digits at least, in tables, in what programs print and in sentences; the blocks ```output, which
tests/docs/code.py compares with what is printed, are left out. A table may sum up other pages: the figures of a row that links
to one, or has such a row above it, are that page's, perhaps rounded, but those of a column called "paper". Sentences may
explain what a program printed above them.
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


def repeats(pages):
    """Messages about figures that stand twice, and about summaries that say what their page does not."""
    found, summed = [], {}
    for page, text in pages.items():
        for number, here, linked in summaries(page, text, pages):
            summed[page, number] = linked
            there = {n for _, line in lines_of(pages[linked]) for n in NUMBER.findall(line)}
            for n in here:
                places = len(n.partition(".")[2])
                if not any(abs(float(n.replace(",", "")) - float(m.replace(",", ""))) <= 0.5001 * 10**-places for m in there):
                    found.append(f"{page.name}:{number}: {n} is not in {linked.name}")
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
    print("\n".join(found + missed))
    print(f"{len(pages)} pages, {len(found)} figures stand twice; {planted} rows planted, {len(missed)} missed")
    sys.exit(bool(found or missed) or planted < 20)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
