#!/usr/bin/env python3
"""The released binary where CUDA, or a part of it, is not there. Arguments: the build folder."""
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

build = pathlib.Path(sys.argv[1])
failures = []


def run(*command, **environment):
    everything = {k: v for k, v in os.environ.items() if k != "LD_LIBRARY_PATH"}  # a build's folders
    return subprocess.run([str(c) for c in command], capture_output=True, text=True, env={**everything, **environment})


def check(what, holds, shown=""):
    print(("ok      " if holds else "FAILED  ") + what)
    if not holds:
        failures.append(what)
        print(shown)


def needed(file):
    return re.findall(r"NEEDED.*\[(.*)\]", run("readelf", "-d", file).stdout)


def copy_of_build(folder):
    """tandem and its library alone, with the places of a build."""
    (folder / "tools").mkdir(parents=True)
    shutil.copy(build / "tools/tandem", folder / "tools")
    for library in build.glob("libtandem.so*"):
        if library.is_file() and library.suffix != ".symbols":
            shutil.copy(library, folder, follow_symlinks=False)
    return folder / "tools/tandem"


def explicit_and_auto(what, tandem, reason, prefix=()):
    refused = run(*prefix, tandem, "gradcheck", "relu", "--device", "cuda")
    check(f"{what}: --device cuda is an error, exit 1", refused.returncode == 1, refused)
    check(f"{what}: it says why", "device 'cuda'" in refused.stderr and reason in refused.stderr, refused.stderr)
    fell_back = run(*prefix, tandem, "gradcheck", "relu", "--device", "auto")
    check(f"{what}: --device auto uses the CPU", fell_back.returncode == 0 and " cpu " in fell_back.stdout, fell_back)


for file in (build / "tools/tandem", build / "libtandem.so"):
    libraries = needed(file)
    check(f"{file.name} needs no library of CUDA", libraries and not [l for l in libraries if re.match("lib(cu|nv)", l)], libraries)

with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    tandem = copy_of_build(folder / "alone")
    explicit_and_auto("without the CUDA module", tandem, "this build has no libtandem_cuda.so")

    module = build / "cuda/libtandem_cuda.so"
    libraries = [l for l in needed(module) if re.match(r"lib(cublas|cudnn)", l)]
    check("the CUDA module needs cuBLAS and cuDNN", len(libraries) >= 2, needed(module))
    tandem = copy_of_build(folder / "without libraries")
    shutil.copy(module, tandem.parent.parent)
    copied = tandem.parent.parent / module.name
    # As on a machine without them: nothing tells where they are.
    linker = ["/lib64/ld-linux-x86-64.so.2", "--inhibit-rpath", str(copied)]
    if any(l in run("ldconfig", "-p").stdout for l in libraries):  # found by all programs: another stands for them
        for output, link in ((folder / "libnone.so", []), (copied, ["-Wl,--no-as-needed", f"-L{folder}", "-lnone"])):
            made = run("c++", "-shared", "-x", "c++", "/dev/null", "-o", output, *link)
            check(f"a module that needs a library: {output.name}", made.returncode == 0, made.stderr)
        (folder / "libnone.so").unlink()
        linker = []
    explicit_and_auto("without a library of CUDA", tandem, "cannot open shared object file", linker)

if pathlib.Path("/dev/nvidiactl").exists() or pathlib.Path("/proc/driver/nvidia").exists():
    print("skipped: without a driver (there is one here)")
else:
    explicit_and_auto("without a driver", build / "tools/tandem", "no CUDA device: cudaGetDeviceCount says")

old = run(build / "tools/tandem", "gradcheck", "relu", "--device", "cudasim",
          CUDASIM="arch=70", TANDEM_DEVICE_PATH=str(build / "tests/cuda"))
check("a device older than the module's code: an error that says so, exit 1",
      old.returncode == 1 and "is of sm_70, expected at least sm_75" in old.stderr, old)

sys.exit(1 if failures else 0)
