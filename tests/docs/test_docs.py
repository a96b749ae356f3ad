"""What the Markdown files name exists: files and anchors of links, paths, commands and their options.

  test_docs.py SOURCE_FOLDER PATH_TO_TANDEM
"""

import os
import re
import subprocess
import sys
from functools import cache
from itertools import product
from pathlib import Path

ROOT, TANDEM = Path(sys.argv[1]).resolve(), os.path.abspath(sys.argv[2])
TOP = {p.name for p in ROOT.iterdir() if p.name[0] != "." and not p.name.startswith("build")}
NAMES = {p.name for top in TOP for p in [ROOT / top, *(ROOT / top).rglob("*")]}
BUILD_FILES = "".join(p.read_text() for top in TOP for p in [*(ROOT / top).rglob("meson.build")])
problems, checked = [], 0


def is_suite(name):
    """Of those that tests/meson.build lists by name, each a program test_NAME and a test NAME."""
    return re.search(rf"^  '{name}': files\(", BUILD_FILES, re.MULTILINE)


def expect(holds, file, what):
    global checked
    checked += 1
    if not holds:
        problems.append(f"{file.relative_to(ROOT)}: {what}")


def anchors(file):
    """Of the headings of a Markdown file, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


def check_links(file, text):
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, anchor = link.partition("#")
        if ":" in path:
            continue
        target = file.parent / path if path else file
        expect(target.exists(), file, f"link to {link}: no such file")
        if anchor and target.is_file():
            expect(anchor in anchors(target), file, f"link to {link}: no such heading")


@cache
def made_by(file):
    """Names of the files that a walk makes: of `tools/new-op NAME`, and those that are shown."""
    text = file.read_text()
    ops = re.findall(r"tools/new-op (\w+)", text)
    shown = re.findall(r"`([\w/]+\.\w+)`:\n+```", text)
    return {op + end for op in ops for end in ("", "_kernel", "_function")} | {Path(f).stem for f in shown}


def check_path(file, word):
    """A word that can only be a path of this tree, with NAME, * and {a,b} for what varies."""
    if not re.fullmatch(r"[\w.{},*/-]+", word) or word.startswith(("build", "/")) or Path(word).stem in made_by(file):
        return
    parts = re.split(r"\{([^}]*)\}", word.rstrip("/").replace("NAME", "*"))
    words = ["".join(w) for w in product(*[p.split(",") if i % 2 else [p] for i, p in enumerate(parts)])]
    for w in words:
        if "/" in w and (w.split("/")[0] in TOP or (file.parent / w.split("/")[0]).is_dir()):
            expect(any([*ROOT.glob(w), *file.parent.glob(w)]), file, f"{word}: no such file")
        elif re.fullmatch(r"\w+\.(h|cpp|cu|cuh|py)", w):
            expect(w in NAMES, file, f"{word}: no file of that name")


@cache
def help_of(*command):
    """What `tandem COMMAND --help` prints; None for a command that does not exist."""
    done = subprocess.run([TANDEM, *command, "--help"], capture_output=True, text=True, timeout=60)
    return done.stdout if done.returncode == 0 and f"Usage: tandem {' '.join(command)}" in done.stdout else None


def check_tandem(file, words):
    """The words after `tandem`: a command, perhaps one of several (eval|predict), and its options."""
    words = words[1:] if words[:1] == ["help"] else words
    if not words or not re.fullmatch(r"[a-z|]+", words[0]):
        return
    for command in words[0].split("|"):
        expect(help_of(command), file, f"tandem {command}: no such command")
        deeper = words[1].split("|") if command in ("data", "train", "score") and len(words) > 1 else [""]
        for task in set(deeper) - made_by(file):
            path = [command, task] if re.fullmatch("[a-z]+", task) and command == "train" else [command]
            text = help_of(*path)
            expect(text, file, f"tandem {' '.join(path)}: no such command")
            if command != "train" and re.fullmatch("[a-z][a-z-]+", task):
                expect(task in (text or ""), file, f"tandem {command} {task}: not in its help")
            options = {w.split("=")[0] for w in words if re.fullmatch(r"--[a-z0-9-]+(=.*)?", w)} - {"--help"}
            for option in options if path != ["train"] else ():
                expect(re.search(option + r"\b(?!-)", text or ""), file, f"tandem {' '.join(path)} {option}: no such option")


def check_command(file, line):
    for part in re.split(r" \| |;|&&|>|<| # |\n", line.replace("\\|", "|")):
        words = [w for w in part.split() if not re.fullmatch(r"[A-Z_]+=\S+", w)]
        words = words[1:] if words[:1] == ["$"] else words
        if not words:
            continue
        program = words[0]
        if re.fullmatch(r"(build[\w-]*/tools/)?tandem", program):
            check_tandem(file, words[1:])
        elif re.fullmatch(r"(tools|tests)/[\w/.-]+", program) and not (ROOT / program).is_dir():
            check_path(file, program)
            if not (ROOT / program).is_file():
                continue
            for option in re.findall(r" (--[a-z-]+)", part):
                expect(option in (ROOT / program).read_text(), file, f"{program} {option}: no such option")
        elif re.fullmatch(r"build[\w-]*/tests/[\w/]+", program):
            name = Path(program).name
            expect(f"executable('{name}'" in BUILD_FILES or is_suite(name.removeprefix("test_")), file,
                   f"{program}: no such program")
        elif words[:2] == ["meson", "test"]:
            rest = re.sub(r" -C \S+| --suite \S+", "", part).split()[2:]
            for name in rest:
                expect(f"test('{name}'" in BUILD_FILES or is_suite(name), file, f"meson test {name}: no such test")


def check(file):
    blocks = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    whole = file.read_text()
    text = blocks.sub("", whole)
    check_links(file, text)
    for code in re.findall(r"`([^`]+)`", text):
        check_path(file, code)
        check_command(file, code)
    for language, block in blocks.findall(whole):
        for line in block.replace("\\\n", " ").splitlines():
            if language == "sh" or line.startswith("$ "):
                check_command(file, line)


files = [p for p in [*ROOT.glob("*.md"), *(p for top in TOP for p in (ROOT / top).rglob("*.md"))]]
for markdown in sorted(files):
    check(markdown)
print("\n".join(problems))
print(f"{len(files)} files, {checked} names checked, {len(problems)} wrong")
sys.exit(1 if problems or checked < 100 else 0)
