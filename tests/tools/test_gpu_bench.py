"""tools/gpu/bench from end to end: on the simulated device, and beside a stand-in of PyTorch.

  test_gpu_bench.py TOOLS_GPU_BENCH [BUILD]    BUILD: a build with the simulated device
"""
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

BENCH = Path(sys.argv[1]).resolve()
STEPS = ("ViT-B/16", "LM, T 1024", "Transformer-base, 4k tokens", "small ViT")

# Answers every case in SECONDS, but for what goes wrong: FAULTS, by a pattern of its line.
STAND_IN = """#!/usr/bin/env python3
import re, sys, time
for line in sys.stdin:
    fault = next((f for part, f in FAULTS.items() if re.search(part, line)), None)
    if fault == "crash":
        sys.exit(3)
    if fault == "silence":
        time.sleep(60)
    print(fault or SECONDS, flush=True)
"""


def expect(holds, message):
    if not holds:
        sys.exit(f"test_gpu_bench: {message}")


def run(script, *options, **environment):
    done = subprocess.run([sys.executable, script, "--tiny", "--json", "rows.json", *options], capture_output=True,
                          text=True, timeout=100, env=dict(os.environ, **environment))
    expect(done.returncode == 0, f"{options}: status {done.returncode}\n{done.stdout}{done.stderr}")
    return json.loads(Path("rows.json").read_text()), done.stdout


def stand_in(path, seconds, faults):
    path.write_text(STAND_IN.replace("FAULTS", repr(faults)).replace("SECONDS", str(seconds)))
    path.chmod(0o755)


def test_simulated(build):
    whole, table = run(BENCH, "--device", "cudasim", "--minutes", "1", "--programs", build)
    rows = whole["rows"]
    failed = [r for r in rows if "ours_failed" in r]
    expect(not failed, f"failed: {failed}")
    names = {r["work"] for r in rows}
    expect(names >= {*STEPS, "copy, 1 GiB", "product 8192^3"}, f"not measured: {names}")
    for name in STEPS:
        expect({r["ours"] for r in rows if r["work"] == name} == {"eager", "recorded"}, f"{name}: {rows}")
    for r in rows:
        expect(r["ours_s"] > 0 and len(r["ours_all_s"]) == 2 and r["floor_s"] > 0, f"of {r}")
        expect(r["work"] in table, f"no line of {r['work']} in\n{table}")
    starts = {line.index("eager") for line in table.splitlines() if " eager " in line}
    expect(len(starts) == 1, f"not aligned:\n{table}")


# A package: programs in bin/, the script and torch_side.py in gpu/, and a PyTorch that can be imported.
def test_package():
    for folder in ("package/gpu", "package/bin", "modules"):
        os.makedirs(folder)
    for file in BENCH.parent.glob("bench*"):
        shutil.copy(file, "package/gpu")
    script = "package/gpu/bench"
    Path("modules/torch.py").write_text("class version: cuda = '13.0'\n__version__ = '2.11'\n")
    stand_in(Path("package/bin/bench_peers"), 0.001, {"lm": "error: no memory"})
    stand_in(Path("package/gpu/torch_side.py"), 0.002, {"rdrop.*f32": "crash", "transformer.*f32": "silence"})
    whole, table = run(script, "--device", "cpu", "--timeout", "3", "--minutes", "1", PYTHONPATH="modules")
    expect("PyTorch 2.11, CUDA 13.0" in table, f"no version in\n{table}")
    for r in whole["rows"]:
        line = f"of {r}"
        if r["work"].startswith("LM"):
            expect(r["ours_failed"] == "no memory" and r["theirs_s"] == 0.002, line)
        elif r["work"].startswith("Transformer") and r["precision"] == "f32":
            expect("no answer" in r["theirs_failed"] and r["ours_s"] == 0.001, line)
        elif r["work"].startswith("R-Drop") and r["precision"] == "f32":
            expect("status 3" in r["theirs_failed"] and r["ours_s"] == 0.001, line)
        else:
            expect(r["faster"] == 2 and r["faster_range"] == [2, 2] and r["pairs"] == 2, line)
    expect("failed: no memory" in table and "2.00x" in table, f"the table:\n{table}")
    kinds = {r["theirs"] for r in whole["rows"]}
    expect(kinds == {"eager", "compile", "graph"}, f"kinds: {kinds}")
    # When the time is up, it says what it has.
    stand_in(Path("package/bin/bench_peers"), 0.001, {"product": "silence"})
    whole, table = run(script, "--device", "cpu", "--minutes", "0.1")
    names = [r["work"] for r in whole["rows"]]
    expect(names[:2] == ["copy, 1 GiB", "product 8192^3"] and len(names) < 10, f"in six seconds: {names}")


def main():
    build = str(Path(sys.argv[2]).resolve()) if len(sys.argv) > 2 else None
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        test_package()
        if build:
            test_simulated(build)


main()
