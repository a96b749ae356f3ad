#!/usr/bin/env python3
"""The package on a machine that has nothing else: no compiler, and of libraries only what every system has.

Arguments: the sources, the build folder. The package is unpacked into a folder that is then the root of all that a
program sees (chroot, in a user namespace where this is not run by root).
"""
import os
import pathlib
import shutil
import struct
import subprocess
import sys
import tarfile
import tempfile

source, build = map(pathlib.Path, sys.argv[1:3])
failures = []


def run(*command, **environment):
    return subprocess.run([str(c) for c in command], capture_output=True, text=True, env={**os.environ, **environment})


def check(what, holds, shown=""):
    print(("ok      " if holds else "FAILED  ") + what)
    if not holds:
        failures.append(what)
        print(shown)


def write_images(folder):
    """Fashion-MNIST's files, of a few images: class c has a bright row c."""
    folder.mkdir()
    for part, count in (("train", 64), ("t10k", 16)):
        labels = bytes(i % 10 for i in range(count))
        pixels = b"".join(bytes(255 if row // 28 == label else 0 for row in range(784)) for label in labels)
        (folder / f"{part}-images-idx3-ubyte").write_bytes(struct.pack(">IIII", 0x803, count, 28, 28) + pixels)
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 0x801, count) + labels)


def bare_root(root):
    """The linker and what the allow-list of tools/package names, and nothing else."""
    libraries = run("ldconfig", "-p").stdout
    for name in ("libc.so.6", "libm.so.6", "libdl.so.2", "librt.so.1", "libpthread.so.0", "libstdc++.so.6", "libgcc_s.so.1",
                 "libz.so.1"):
        path = next(l.split("=> ")[1] for l in libraries.splitlines() if l.strip().startswith(name + " ") and "x86-64" in l)
        (root / "lib/x86_64-linux-gnu").mkdir(parents=True, exist_ok=True)
        shutil.copy(path, root / "lib/x86_64-linux-gnu" / name)
    (root / "lib64").mkdir()
    shutil.copy("/lib64/ld-linux-x86-64.so.2", root / "lib64")
    (root / "tmp").mkdir()


with tempfile.TemporaryDirectory() as temporary:
    folder = pathlib.Path(temporary)
    archive = folder / "package.tar.xz"
    packed = run(sys.executable, source / "tools/package", "--build", build, "--preset", "0", "--output", archive)
    check("tools/package packs a build", packed.returncode == 0, packed)
    if failures:
        sys.exit(1)
    root = folder / "bare"
    bare_root(root)
    with tarfile.open(archive) as tar:
        tar.extractall(root / "opt")
    unpacked = next((root / "opt").iterdir())
    tandem = "/" + str((unpacked / "bin/tandem").relative_to(root))
    write_images(root / "images")

    chroot = [shutil.which("chroot", path="/usr/sbin:/usr/bin:/sbin:/bin"), root]
    # Without /proc the linker does not know where a program lies.
    os.environ["LD_ORIGIN_PATH"] = str(pathlib.PurePosixPath(tandem).parent)
    enter = chroot if os.geteuid() == 0 else [shutil.which("unshare"), "--map-root-user", *chroot]
    trained = run(*enter, tandem, "train", "vit", "--data", "/images", "--dim", "32", "--depth", "1", "--heads", "2",
                  "--mlp-dim", "64", "--epochs", "1", "--batch-size", "32", "--device", "cpu", "--run", "/tmp/run",
                  PATH="/nowhere", HOME="/nowhere")
    check("it trains where nothing else is", trained.returncode == 0 and (root / "tmp/run/metrics.csv").exists(), trained)
    doctor = run(*enter, tandem, "doctor", PATH="/nowhere", HOME="/nowhere")
    check("tandem doctor tells what is missing there", doctor.returncode == 0 and "not found" in doctor.stdout, doctor)
    check("its libraries are the package's", f"{unpacked.name}/bin/../lib/libtandem.so.0" in doctor.stdout, doctor)
    refused = run(*enter, tandem, "gradcheck", "relu", "--device", "cuda", PATH="/nowhere", HOME="/nowhere")
    why = "libcublas" if (unpacked / "lib/libtandem_cuda.so").exists() else "this build has no"
    check("--device cuda stops at the missing library, by name", refused.returncode == 1 and why in refused.stderr, refused)

    if (unpacked / "lib/libtandem_cuda.so").exists() and not pathlib.Path("/dev/nvidiactl").exists():
        del os.environ["LD_ORIGIN_PATH"]
        here = run(unpacked / "bin/tandem", "gradcheck", "relu", "--device", "cuda")
        check("with cuBLAS and cuDNN, it stops at the missing driver",
              here.returncode == 1 and "driver" in here.stderr, here)
    licences = {f.name for f in (unpacked / "licences").iterdir()}
    bundled = {f.name for f in (unpacked / "lib").iterdir() if not f.name.startswith("libtandem")}
    check("a licence for tandem and what is bundled", "tandem.txt" in licences and len(licences) > 5, (licences, bundled))
    strangers = [n for n in os.listdir(unpacked) if n not in ("bin", "lib", "licences", "README.md")]
    check("nothing else is in it", not strangers, strangers)

sys.exit(1 if failures else 0)
