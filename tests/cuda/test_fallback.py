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
    # One that no machine has stands for them; the module needs another, which needs that.
    for output, link in ((folder / "libinner.so", []), (folder / "libouter.so", ["-linner"]), (copied, ["-louter"])):
        made = run("c++", "-shared", "-x", "c++", "/dev/null", "-o", output, f"-Wl,--no-as-needed,-soname,{output.name}",
                   f"-L{folder}", *link)
        check(f"a module that needs a library: {output.name}", made.returncode == 0, made.stderr)
    explicit_and_auto("without a library of CUDA", tandem, "libouter.so: cannot open shared object file")
    places = {"a toolkit": ("CUDA_HOME", folder / "toolkit", "lib64"),
              "pip's packages of an environment": ("VIRTUAL_ENV", folder / "venv", "lib/python3.12/site-packages/nvidia/cu13/lib")}
    for what, (variable, root, place) in places.items():
        (root / place).mkdir(parents=True)
        told = run(tandem, "doctor", **{variable: str(root)})
        check(f"tandem doctor looks into {what}", told.returncode == 0 and str(root / place) in told.stdout, told)
        for library in ("libinner.so", "libouter.so"):
            shutil.copy(folder / library, root / place)
        opened = run(tandem, "gradcheck", "relu", "--device", "cuda", **{variable: str(root)})
        check(f"libraries in {what} are found", "is not a device module" in opened.stderr, opened)
    (folder / "path").mkdir()
    (folder / "path/python3").symlink_to("/bin/true")
    shutil.copytree(folder / "venv/lib", folder / "lib")
    on_path = run(tandem, "gradcheck", "relu", "--device", "cuda", PATH=f"{folder}/path:{os.environ['PATH']}")
    check("libraries beside a python3 on PATH are found", "is not a device module" in on_path.stderr, on_path)

if pathlib.Path("/dev/nvidiactl").exists() or pathlib.Path("/proc/driver/nvidia").exists():
    print("skipped: without a driver (there is one here)")
else:
    explicit_and_auto("without a driver", build / "tools/tandem", "no CUDA device: cudaGetDeviceCount says")

for program in ("tests/test_ops", "tests/cuda/test_cuda"):
    binds = run(build / program, "--device=cuda", "--list-test-cases", LD_DEBUG="bindings").stderr
    theirs = re.findall(r"binding file \S*libtandem_cuda\.so \S+ to (\S+) .*symbol `((?:cublas|cudnn)\w*)'", binds)
    check(f"{program}: cuBLAS and cuDNN of the CUDA module are NVIDIA's",
          len(theirs) > 20 and not [to for to, _ in theirs if not re.search(r"/lib(cublas|cudnn)", to)], theirs)
    simulated = [line for line in binds.splitlines() if re.search("cudasim|tandem_block|block_acquired", line)]
    check(f"{program}: nothing of it is the simulator's", not simulated, simulated)

for wrong, says in (("cuda:x", "cuda:N"), ("cuda:-1", "cuda:N"), ("gpu", "cuda:N")):
    refused = run(build / "tools/tandem", "gradcheck", "relu", "--device", wrong)
    check(f"--device {wrong} is an error, exit 2", refused.returncode == 2 and says in refused.stderr, refused)
chosen = run(build / "tools/tandem", "gradcheck", "relu", "--device", "cuda:3", CUDA_VISIBLE_DEVICES="4,5")
check("--device cuda:3 of two visible ones is an error that names them", chosen.returncode == 1 and
      "'cuda:3': CUDA_VISIBLE_DEVICES has 2 devices: 4,5" in chosen.stderr, chosen)
old = run(build / "tools/tandem", "gradcheck", "relu", "--device", "cudasim",
          CUDASIM="arch=70", TANDEM_DEVICE_PATH=str(build / "tests/cuda"))
check("a device older than the module's code: an error that says so, exit 1",
      old.returncode == 1 and "is of sm_70, expected at least sm_75" in old.stderr, old)

sys.exit(1 if failures else 0)
