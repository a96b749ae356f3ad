#!/usr/bin/env python3
"""tandem.h brings every public header of the library. Argument: the source folder."""
import pathlib
import re
import sys

# What is not public, and why. Every other header of autograd/, ops/, nn/ and models/ is.
PRIVATE = {
    r"autograd/(device_kernel|kernel|load_kernels|pending_error|shared_library|tell|tensor_impl|thread_scope|used_ops)\.h": "for kernels, the engine and the command",
    r"nn/optim/(rules|run_rule|tensor_rows|tensor_table)\.h": "for kernels",
    r"ops/\w+_(kernel|cpu|op)\.h": "of one op, or of two alike",
    r"ops/(\w+)/(?!\1\.h)\w+\.h": "what several ops share; of a folder NAME only NAME.h is public",
    r"nn/data/photos/(color|formats|list_file|photo_loader)\.h": "parts of photo_dataset.h and photo_list.h",
    r"nn/data/tokenizers/\w+\.h": "behind data::Vocabulary",
    r"models/pretrained/(config|names)\.h": "behind models/pretrained/pretrained.h",
    r"nn/ranks/(agreement|watch)\.h": "of the ranks' own",
    r"nn/train/(report|trainer_safety|trainer_state)\.h": "of the trainer alone",
    r"(nn/layers/options|nn/metrics/characters|models/presets|models/transformer/padding)\.h": "what one folder shares",
}



def headers(root):
    """Of the library's folders, public and private ones."""
    return {path.relative_to(root).as_posix()
            for folder in ("autograd", "ops", "nn", "models") for path in (root / folder).rglob("*.h")}


def public_headers(root):
    return sorted(header for header in headers(root) if not any(re.fullmatch(rule, header) for rule in PRIVATE))


def main(root):
    reached, ahead = set(), ["tandem.h"]
    while ahead:
        header = ahead.pop()
        if header not in reached and (root / header).exists():
            reached.add(header)
            ahead += re.findall(r'^#include "(.+)"$', (root / header).read_text(), re.MULTILINE)

    missing = [header for header in public_headers(root) if header not in reached]
    useless = [rule for rule in PRIVATE if not any(re.fullmatch(rule, header) for header in headers(root))]
    if missing or useless:
        sys.exit(f"tandem.h does not bring {missing}; no header is {useless}")
    print(f"{len(public_headers(root))} public headers of {len(headers(root))}")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
