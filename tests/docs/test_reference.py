#!/usr/bin/env python3
"""Every public name has a comment. Argument: the source folder. Counts what Doxygen finds in the public headers.

A comment is one as tools/docs/comments.py reads them, or that of the class where it has the member's name in it.
"""

import re
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path

# Functions of a class that need none.
PLAIN = {
    r"~\w+|[A-Z]\w+|operator==?": "constructors, the destructor, what a compiler could have made",
    r"forward": "of a layer: what its class is",
}


def text_of(node, *parts):
    return " ".join("".join(found.itertext()) for part in parts for found in node.findall(part)).strip()


def comment_of(member, section, owner):
    name, about = member.findtext("name"), text_of(owner, "briefdescription", "detaileddescription")
    own = text_of(member, "briefdescription", "detaileddescription") or text_of(section, "header", "description")
    if own or owner.get("kind") not in ("class", "struct"):
        return own
    is_constructor = name == owner.findtext("compoundname").split("::")[-1]
    if member.get("kind") == "function" and (is_constructor or any(re.fullmatch(p, name) for p in PLAIN)):
        return "plain"
    return about if re.search(rf"\b{re.escape(name)}\b", about, re.IGNORECASE) else ""


def names(xml):
    """Of all that is public or protected: the header, the name, and the comment."""
    found = {}
    for file in set(xml.glob("*.xml")) - {xml / "index.xml", xml / "Doxyfile.xml"}:
        owner = ElementTree.parse(file).getroot()[0]
        name = owner.findtext("compoundname")
        # A specialisation is what its template is.
        if owner.get("kind") not in ("class", "struct", "namespace", "file") or owner.get("prot") == "private" or "<" in name:
            continue
        if owner.get("kind") in ("class", "struct"):
            found[name] = owner.find("location").get("file"), name, text_of(owner, "briefdescription", "detaileddescription")
        for section in owner.findall("sectiondef"):
            for member in section.findall("memberdef"):
                if member.get("prot") != "private" and member.get("kind") != "friend" and member.findtext("name"):
                    title = f"{name}::{member.findtext('name')}{member.findtext('argsstring') or ''}"
                    found[member.get("id")] = member.find("location").get("file"), title, comment_of(member, section, owner)
    return found.values()


if not shutil.which("doxygen"):
    print("no doxygen, which finds the names; it is in Debian's package doxygen")
    sys.exit(77)
with tempfile.TemporaryDirectory() as scratch:
    reference = [Path(sys.argv[1], "tools/docs/reference"), "--xml", scratch]
    warnings = subprocess.run(reference, check=True, capture_output=True, text=True).stderr
    found = names(Path(scratch, "xml"))
bare = sorted((header, name) for header, name, comment in found if not comment)
for header, name in bare:
    print(f"{header}: {name} has no comment")
print(f"{warnings}{len(found)} names, {len(bare)} without a comment, {warnings.count('warning:')} warnings of Doxygen")
sys.exit(bool(bare or warnings) or len(found) < 1000)
