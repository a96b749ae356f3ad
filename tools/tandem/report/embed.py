#!/usr/bin/env python3
"""Writes files into a C++ source as strings: embed.py OUTPUT NAME=FILE..."""

import sys

output, *files = sys.argv[1:]
with open(output, "w", encoding="utf-8") as out:
    out.write('#include "tools/tandem/report/page_files.h"\n\nnamespace tandem::report {\n')
    for entry in files:
        name, file = entry.split("=", 1)
        text = open(file, encoding="utf-8").read()
        assert ')embedded"' not in text, file
        out.write(f'\nconst std::string_view {name} = R"embedded({text})embedded";\n')
    out.write("\n}  // namespace tandem::report\n")
