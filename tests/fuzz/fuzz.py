"""Builds the targets for libFuzzer, by clang with ASan and UBSan, and runs each for some seconds, or 10^7 times, two at a time.

fuzz.py SOURCE BUILD SECONDS TARGET:READER,READER...

Only the target and its readers are compiled; the rest is BUILD's libtandem. Corpora are kept in
BUILD/fuzz/corpus, so that a later run goes on; what ends a target is left in BUILD/fuzz/findings.
"""
import concurrent.futures
import os
import pathlib
import re
import shutil
import subprocess
import sys

import seeds

FLAGS = ("-std=c++20 -gline-tables-only -O1 -fno-omit-frame-pointer -fsanitize=fuzzer,address,undefined,float-cast-overflow "
         "-fno-sanitize-recover=all")
LIMITS = ["-runs=10000000", "-max_len=8192", "-timeout=60", "-rss_limit_mb=2048", "-malloc_limit_mb=1024"]


def build(source, build_folder, work, targets, clang):
    launcher = "ccache " if shutil.which("ccache") else ""
    lines = [f"rule cc\n  command = {launcher}{clang} {FLAGS} -I{source} -I{source}/tests/cudasim -MMD -MF $out.d -c $in -o $out",
             "  depfile = $out.d\n  deps = gcc",
             f"rule link\n  command = {clang} {FLAGS} $in -o $out -Wl,-rpath,{build_folder} -lfmt -licuuc -ljpeg -lpng -lwebp -lsentencepiece -lsentencepiece_train -lz"]
    objects = {}
    for target, readers in targets.items():
        for file in [f"tests/fuzz/{target}.cpp", *readers]:
            objects[file] = f"{file}.o"
    lines += [f"build {made}: cc {source}/{file}" for file, made in objects.items()]
    libraries = f"{build_folder}/tools/libtandem_tools.a {build_folder}/libtandem.so"
    for target, readers in targets.items():
        lines.append(f"build {target}: link {' '.join(objects[f] for f in [f'tests/fuzz/{target}.cpp', *readers])} {libraries}")
    (work / "build.ninja").write_text("\n".join(lines) + "\n")
    subprocess.run(["ninja", "-C", work, *targets], check=True)


def fuzz(source, work, target, seconds):
    corpus, findings = work / "corpus" / target, work / "findings" / target
    for folder in (corpus, findings):
        folder.mkdir(parents=True, exist_ok=True)
    known = [work / "seeds" / target, source / "tests/fuzz/regressions" / target]
    run = subprocess.run([work / target, f"-max_total_time={seconds}", *LIMITS, f"-artifact_prefix={findings}/", "-print_final_stats=1",
                          corpus, *(folder for folder in known if folder.is_dir())],
                         text=True, errors="replace", stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                         env={**os.environ, "OMP_NUM_THREADS": "1", "UBSAN_OPTIONS": "print_stacktrace=1"})
    executions = re.search(r"number_of_executed_units: (\d+)", run.stdout)
    covered = re.findall(r"cov: (\d+)", run.stdout)
    print(f"{target:<12} {int(executions[1]) if executions else 0:>11,} executions, {covered[-1] if covered else 0:>5} edges: "
          f"{'ok' if run.returncode == 0 else 'a finding'}", flush=True)
    if run.returncode != 0:
        (findings / "log").write_text(run.stdout)
        report = run.stdout.find("==ERROR")
        print(run.stdout[max(report - 500, 0):][:4000] if report >= 0 else run.stdout[-4000:], flush=True)
        print(f"{target}: mend it, and add the file in {findings} to tests/fuzz/regressions/{target}", flush=True)
    return run.returncode == 0


def main(source, build_folder, seconds, *targets):
    clang = shutil.which("clang++")
    if clang is None:
        print("libFuzzer needs clang++ and its runtime: apt-get install clang libclang-rt-14-dev")
        sys.exit(77)
    source, build_folder = pathlib.Path(source), pathlib.Path(build_folder)
    work = build_folder / "fuzz"
    targets = {name: readers.split(",") for name, readers in (target.split(":") for target in targets)}
    work.mkdir(exist_ok=True)
    seeds.write(work / "seeds")
    build(source, build_folder, work, targets, clang)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        fine = list(pool.map(lambda target: fuzz(source, work, target, seconds), targets))
    sys.exit(not all(fine))


if __name__ == "__main__":
    main(*sys.argv[1:])
