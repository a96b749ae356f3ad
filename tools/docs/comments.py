"""The comments of our headers as Doxygen's: // above a declaration, behind it, or above a run of them.

- The comment that opens a file is the page of the file, and documents the class for which the file is named.
- A comment above a declaration documents it, and those that follow it without a blank line and have none of their own. Of
  three and more it makes a group, whose heading is its first words; one that is nothing but a heading is that of all
  declarations up to a blank line.
- A comment behind a declaration, which may go on below itself, documents that one; behind the `{` of a class, the class.
- Lines that are indented by two blanks, but those of a list, are code; a line before them may end in "Example:".
"""

import re

LITERAL_OR_COMMENT = re.compile(r'"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])\'|//.*')
SILENT = re.compile(r" +(friend .*|\S.*\) = delete|(virtual )?~.*);$")
TEMPLATE = r"(?:template\s*<[^{]*?>\s*(?:requires[^{]*?)?)*"
SCOPES = {"namespace": re.compile(r"(inline )?namespace\b"), "enum": re.compile(r"enum\b"),
          "class": re.compile(TEMPLATE + r"(class|struct|union)\b(?!.*\boperator\b)", re.DOTALL)}


def split(line):
    """Code without literals, and the text of the comment (None: there is none) with its column."""
    found = next((m for m in LITERAL_OR_COMMENT.finditer(line) if m[0].startswith("//")), None)
    code = LITERAL_OR_COMMENT.sub(lambda m: "" if m[0].startswith("//") else '""', line)
    return code, found and found[0][2:].removeprefix(" "), found.start() if found else -1


def escaped(text):
    parts = text.split("`")
    parts[::2] = (re.sub(r"([\\@<>#%&])", r"\\\1", part) for part in parts[::2])
    return "`".join(parts)


def marked_up(lines):
    """The lines of a comment as Doxygen's Markdown."""
    out, code, in_list = [], False, False
    for i, line in enumerate(lines):
        in_list = bool(re.match("- ", line)) or in_list and line.startswith("  ")
        block = line.startswith("  ") and not in_list or code and not line and lines[i + 1 : i + 2] and lines[i + 1].startswith("  ")
        if block and not code:
            is_cpp = re.search(r"[;{]$|[;{]\s+//", "\n".join(lines[i:]), re.MULTILINE)
            out += ["", "@code{.cpp}" if is_cpp else "@code{.unparsed}"]
        elif code and not block:
            out += ["@endcode", ""]
        if not block and line.endswith("Example:"):  # a paragraph of its own: the first one stands in tables
            out += [escaped(line.removesuffix("Example:").rstrip()), ""] if line != "Example:" else [""]
            line = "Example:"
        out.append(line.removeprefix("  ") if block else escaped(line))
        code = block
    return out + ["@endcode"] * code


def block(lines, indent=""):
    return [f"{indent}/**", *(f"{indent} * {line}".rstrip() for line in lines), f"{indent} */"]


def brief(lines):
    """The whole first paragraph of a comment stands in the tables of a page."""
    text = marked_up(lines)
    return ["@brief " + text[0], *text[1:]] if text and text[0] else text


class Declaration:
    def __init__(self, first, scope):
        self.first, self.last, self.scope = first, first, scope  # lines
        self.is_class = False  # or an enum
        self.visible = True
        self.comment = None  # of the line above: its first line's number
        self.own = []  # the lines of the comment behind it

    def comments_of(self, lines):
        return [split(line)[1] for line in lines[self.comment : self.first]] if self.comment is not None else []


class Scope:
    def __init__(self, kind, visible, declaration=None):
        self.kind, self.visible, self.declaration = kind, visible, declaration
        self.parts = []  # declarations, and None where a run ends

    def declares(self):
        return self.kind in ("namespace", "class", "enum")


class Reader:
    """Finds the declarations of a header, and which comments belong to them."""

    def __init__(self, lines):
        self.lines = lines
        self.scopes = [Scope("namespace", True)]
        self.closed = []  # scopes that have ended
        self.text, self.at, self.depth = "", None, 0  # of the statement that is being read, and its parentheses
        self.comment = None  # where the comment above it begins
        self.after_body = False  # whether a function, or an initialiser, has just been closed
        self.last, self.column = None, -1  # what ended on this line, and where the comment behind it begins
        for number, line in enumerate(lines):
            self.read(number, *split(line))
        self.closed.append(self.scopes[0])

    def read(self, number, code, comment, column):
        top = self.scopes[-1]
        if not code.strip():
            if self.text.strip() or not top.declares():
                return
            last = top.parts[-1] if top.parts else None
            if comment is None:
                self.comment = None
                top.parts.append(None)
            elif last and last.own and column == self.column:
                last.own.append(comment)
                last.last = number
            elif self.comment is None:
                self.comment = number
            return
        if code.lstrip().startswith("#"):
            return
        before = len(self.scopes)
        self.last = None
        for c in code.rstrip():
            self.take(c, number)
        self.text += "\n"
        if self.after_body:
            self.finish(number)  # it was a function's
        if comment is not None:
            opened = self.scopes[-1].declaration if len(self.scopes) > before else None
            # An enumerator's comment stands behind its comma, or behind the last one.
            if self.last is None and self.scopes[-1].kind == "enum" and self.text.strip() and not opened:
                self.finish(number)
            target = opened or self.last
            if target:
                target.own, self.column = [comment], column

    def take(self, c, number):
        top = self.scopes[-1]
        if self.after_body and not c.isspace():
            if c.isalnum() or c in "_~/":
                self.finish(number)
            self.after_body = False
        if top.declares() and not c.isspace() and self.at is None and c not in ";}":
            self.at = Declaration(number, top)
            self.at.comment, self.comment = self.comment, None
        if c == "{":
            kind = next((k for k, r in SCOPES.items() if self.depth == 0 and r.match(self.text.strip())), "body")
            kind = kind if top.declares() else "body"
            self.scopes.append(Scope(kind, top.visible, self.at))
            if kind == "class":
                self.scopes[-1].visible = top.visible and "class" not in re.sub(TEMPLATE, "", self.text.strip(), 1).split()[:1]
            if kind != "body":
                self.at.is_class = True
                self.text, self.at = "", None
        elif c == "}":
            if top.kind == "enum" and self.text.strip():
                self.finish(number)
            self.closed.append(self.scopes.pop())
            if top.kind == "body":
                self.after_body = self.scopes[-1].declares() and self.depth == 0
            elif top.kind != "namespace":  # up to the semicolon
                self.text, self.at = "}", top.declaration
        elif not top.declares():
            return
        elif c in "()":
            self.depth += 1 if c == "(" else -1
            self.text += c
        elif c == ":" and re.fullmatch(r"\s*(public|protected|private)", self.text):
            top.visible = self.text.strip() != "private"
            top.parts.append(None)
            self.text, self.at = "", None
        elif c == ";" or c == "," and top.kind == "enum":
            self.finish(number)
        else:
            self.text += c

    def finish(self, number):
        if self.at:
            self.at.last = max(self.at.last, number)
            self.at.visible = self.scopes[-1].visible
            self.scopes[-1].parts.append(self.at)
            self.last = self.at
        self.text, self.at, self.after_body = "", None, False

    def blocks(self):
        """Of declarations without a blank line between them: runs, each of which begins with a comment or the block."""
        for scope in self.closed:
            block = []
            for part in scope.parts + [None]:
                if part is None:
                    if block and scope.declares():
                        yield block
                    block = []
                elif not part.visible or not part.own and SILENT.match(self.lines[part.first]):
                    continue
                elif part.comment is not None or not block:
                    block.append([part])
                else:
                    block[-1].append(part)


def documented(name, text):
    """The header of this name, with Doxygen's comments."""
    text = re.sub(r"^template <[^\n]*> struct fmt::formatter(?:[^\n]*{};|.*?^};)\n", "", text, flags=re.DOTALL | re.MULTILINE)
    lines = text.splitlines()
    title = next((i for i, line in enumerate(lines) if not line.startswith("//")), 0)
    out = {i: [line] for i, line in enumerate(lines)}
    if title:
        about = brief([split(line)[1] for line in lines[:title]])
        out[0] = block(["@file", *about])
        for i in range(1, title):
            out[i] = []
    reader = Reader([""] * title + lines[title:])
    for runs in reader.blocks():
        if any([document(run, lines, out) for run in runs]):
            out[runs[-1][-1].last].append("/** @} */")
    for i, line in enumerate(lines):
        named = re.match(r"(?:class|struct) (\w+)\b[^;]*$", line)
        if title and named and named[1].lower() == name.split("/")[-1][:-2].replace("_", "") and len(out[i]) == 1:
            out[i] = block(about) + out[i]
    return "\n".join(line for i in out for line in out[i] if not SILENT.match(line)) + "\n"


def document(run, lines, out):
    """Writes the comments of a run; true where it opens a group that is to be closed at the end of its block."""
    above = run[0].comments_of(lines)
    if above:
        for i in range(run[0].comment, run[0].first):
            out[i] = []
    others = [d for d in run[1:] if not d.own]
    plain = not any(d.is_class for d in run) and run[0].scope.kind != "enum"
    names = {tuple(re.findall(r"(operator[^(]+|\w+)\s*[(=;{]", lines[d.first])[:1]) for d in others} if plain else ()
    title = heading(above) if plain and above else None
    alone = title and not title[1]  # it is then one of all that comes, up to a blank line
    title = title if alone and len(run) > 1 or len(others) > 1 and len(names) > 1 else None
    for d in run:
        indent = re.match(" *", lines[d.first])[0]
        text = above if not title and (d is run[0] or d in others) else []
        if d.own:
            for i in range(d.first, d.last + 1):
                code, comment, column = split(lines[i])
                if comment is not None and comment in d.own:
                    out[i][-1] = lines[i][:column].rstrip()
            text = d.own + ([""] + text if text else [])
        declarations = [out[d.first]] if d.is_class or d.first != d.last else [[one] for one in each_alone(out[d.first][-1])]
        out[d.first] = []
        for lines_of_one in declarations:
            out[d.first] += (block(brief(text), indent) if text else []) + lines_of_one
    if title:
        indent = re.match(" *", lines[run[0].first])[0]
        opening = block([f"@name {title[0]}", *marked_up(title[1])], indent)
        out[run[0].first] = [*opening, f"{indent}/** @{{ */", *out[run[0].first]]
        if not alone:
            out[run[-1].last].append("/** @} */")
    return bool(title and alone)


def each_alone(line):
    """`int a = 0, b = 1;` as two lines, of which a comment documents but the first; any other line as it is."""
    parts, depth = [""], 0
    for c in line:
        depth += (c in "<({[") - (c in ">)}]")
        if c == "," and depth == 0:
            parts.append("")
        elif c == ";" and depth == 0:
            break
        else:
            parts[-1] += c
    head = re.fullmatch(r"(\s*(?!using|friend|typedef)[\w:<>, ]+[ &*])(\w+(\[\w+\])?\s*([={].*)?)", parts[0], re.DOTALL)
    if len(parts) == 1 or not head:
        return [line]
    return [head[1] + declarator.strip() + ";" for declarator in [head[2], *parts[1:]]]


def heading(lines):
    """The first words of a comment as a heading, and what is left of it; None where they make none."""
    parts = re.fullmatch(r"([A-Z](?:[^.;:,(]|\.\w){2,40})(?:[.;:,]|(?= \())\s*(.*)", "\n".join(lines), re.DOTALL)
    return parts and (" ".join(parts[1].split()), (parts[2][:1].upper() + parts[2][1:]).splitlines())
