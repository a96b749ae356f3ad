"""tools/gpu/check: all of it, small, on the simulated device; and what it says of programs that fail, crash or hang.

  test_gpu_check.py SOURCE_ROOT BUILD_ROOT
"""

import fnmatch
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from cases import expect, run_cases

CHECK = Path(sys.argv[1]).resolve() / "tools/gpu/check"
BUILD = Path(sys.argv[2]).resolve()
ONE_CASE = "[doctest] test cases: 1 | 1 passed | 0 failed | 9 skipped"


def stub(name, script, shell="/bin/sh"):
    file = Path("root/bin") / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"#!{shell}\n{script}\n")
    file.chmod(0o755)


def command(*options):
    return [sys.executable, CHECK, "--device", "cudasim", "--programs", "root", "--out", "out", *options]


def result():
    report = json.loads(Path("out/report.json").read_text())
    return report, {piece["name"]: piece for piece in report["pieces"]}


def check(*options, status=0):
    """(report, its pieces by name, what was printed)"""
    done = subprocess.run(command(*options), capture_output=True, text=True, timeout=100)
    expect(done.returncode == status, f"exit status {done.returncode}, expected {status}\n{done.stdout}{done.stderr}")
    return *result(), done.stdout


def expect_piece(piece, **values):
    for key, value in values.items():
        expect(piece[key] == value, f"{piece['name']}: {key} is '{piece[key]}', expected '{value}'")


def alive(pid):
    """Not a zombie that nobody has asked for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def expect_dead(file):
    deadline = time.monotonic() + 5
    while alive(int(file.read_text())):
        expect(time.monotonic() < deadline, "a process of a killed piece still runs")
        time.sleep(0.02)


def test_every_kind_of_piece_runs_on_the_simulated_device():
    report, pieces, printed = check("--quick", "--minutes", "4", "--programs", str(BUILD))
    for piece in pieces.values():
        name = piece["name"]
        may_skip = name == "nvidia-smi" or "check: " in name
        expect(piece["status"] == "ok" or may_skip and piece["status"] == "skipped" and piece["why"], piece)
        expect(printed.count(name) >= 2, f"{name}: expected in a line and in the table\n{printed}")
    for kind in ("ops", "gradcheck*", "op suite*", "cuda: training", "cuda: tasks", "cuda: cuda graph", "cuda: others*",
                 "train *: cpu", "train *: device", "train *: as on the cpu", "train *: graph, bit for bit",
                 "train *: again, bit for bit", "TANDEM_CUDNN=never", "memcheck*", "racecheck*", "initcheck*"):
        expect(fnmatch.filter(pieces, kind), f"no piece {kind} among {list(pieces)}")
    expect(report["counts"].keys() == {"ok", "skipped"} and report["stopped"] == "", report["counts"])
    expect("1 passed" in pieces["cuda: tasks"]["line"], pieces["cuda: tasks"])
    expect(not list(Path("out").rglob("*.safetensors")), "checkpoints were left")


def test_every_case_is_in_one_piece():
    listed = subprocess.run([BUILD / "tests/cuda/test_cuda", "-ltc"], capture_output=True, text=True, check=True)
    cases = [line for line in listed.stdout.splitlines() if line and not line.startswith(("[doctest]", "==="))]
    expect(len(cases) > 100, listed.stdout)
    pieces = subprocess.run([*command("--list", "--only", "cuda: *"), "--programs", BUILD], capture_output=True,
                            text=True, check=True).stdout
    expect(pieces.count("\n") > 8, pieces)
    patterns = [pattern for line in pieces.splitlines() for pattern in line.partition("-tc=")[2].strip('"').split(",")]
    for case in cases:
        found = sum(fnmatch.fnmatch(case, pattern) for pattern in patterns)
        expect(found == 1, f"'{case}' is in {found} pieces")


def test_failures_say_what_failed():
    stub("test_ops", """case "$*" in
      *layout*) echo 'TEST CASE:  layout does not matter'; echo; echo 'x.cpp:7: ERROR: CHECK( 1 == 2 ) is NOT correct!'
                echo '[doctest] test cases: 1 | 0 passed | 1 failed'; exit 1 ;;
      *means*) kill -SEGV $$ ;;
      *linear*) echo '[doctest] test cases: 0 | 0 passed | 0 failed | 9 skipped' ;;
      *) echo '""" + ONE_CASE + """' ;;
    esac""")
    _, pieces, printed = check("--only", "op suite*", status=1)
    expect_piece(pieces["op suite: layout"], status="FAILED", why="exit status 1", exit=1,
                 line="TEST CASE: layout does not matter x.cpp:7: ERROR: CHECK( 1 == 2 ) is NOT correct!")
    expect("x.cpp:7" in "".join(pieces["op suite: layout"]["output"]), "the report lacks a failing piece's output")
    expect_piece(pieces["op suite: an op means"], status="FAILED", why="SIGSEGV")
    expect_piece(pieces["op suite: the gradient is linear"], status="FAILED", why="no test case ran")
    expect_piece(pieces["op suite: a fused vjp"], status="ok", why="", line=ONE_CASE.replace("[doctest] ", ""))
    expect("5 ok, 3 FAILED" in printed.splitlines()[-1] or "3 FAILED, 5 ok" in printed.splitlines()[-1], printed)


def test_holes_and_missing_programs():
    stub("tandem", "echo 'no: softsign cuda bf16: no kernel'; echo '106 ops'")
    _, pieces, _ = check("--only", "ops", status=1)
    expect_piece(pieces["ops"], status="FAILED", why="by its output", line="no: softsign cuda bf16: no kernel")
    _, pieces, _ = check("--only", "op suite: layout")
    expect_piece(pieces["op suite: layout"], status="skipped", why="no test_ops")


def test_a_package_finds_its_own_programs():
    stub("tandem", "echo '106 ops'")
    shutil.copytree(CHECK.parent, "root/gpu")
    subprocess.run(["root/gpu/check", "--only", "ops", "--out", "out"], check=True, capture_output=True, timeout=20)
    report, pieces = result()
    expect(report["programs"] == os.path.realpath("root"), report["programs"])
    expect_piece(pieces["ops"], status="ok", line="106 ops")


TRAIN = """import pathlib, struct, sys
options = dict(zip(sys.argv, sys.argv[1:]))
if "--run" not in options: sys.exit()
run = pathlib.Path(options["--run"])
loss, weight = (3.0, 1.0) if options["--device"] == "cpu" else (%s, %s)
run.mkdir(parents=True, exist_ok=True)
(run / "metrics.csv").write_text(f"epoch,step,split,loss,ce,seconds\\n1,4,train,{loss},2.5,{id(run)}\\n")
header = b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
for file in "best", "last":
    (run / f"{file}.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + struct.pack("<f", weight))
"""


def test_runs_are_compared():
    graph = '1.5 if "--cuda-graph" in sys.argv else 1'
    for loss, weight, of_cpu, of_graph in (("3.0001", "1", "ok", "ok"), ("3.001", "1", "FAILED", "ok"),
                                           ("float('nan')", "1", "FAILED", "ok"), ("3", graph, "ok", "FAILED"),
                                           (f"2 + ({graph})", "1", "ok", "FAILED")):
        stub("tandem", TRAIN % (loss, weight), sys.executable)
        failed = "FAILED" in (of_cpu, of_graph)
        _, pieces, _ = check("--quick", "--only", "train lm f32*", status=int(failed))
        expect_piece(pieces["train lm f32: as on the cpu"], status=of_cpu)
        expect_piece(pieces["train lm f32: graph, bit for bit"], status=of_graph)
        expect_piece(pieces["train lm f32: again, bit for bit"], status="ok")
    expect("epoch 1" in pieces["train lm f32: graph, bit for bit"]["line"], pieces["train lm f32: graph, bit for bit"])
    stub("tandem", "exit 1")
    _, pieces, _ = check("--quick", "--only", "train lm f32*", status=1)
    expect_piece(pieces["train lm f32: as on the cpu"], status="skipped", why="'train lm f32: device' has not passed")


HANGS = """case "$*" in *-ltc*) exit ;; esac
echo 'on the way'
sleep 60 & echo $! > sleeper.tmp; mv sleeper.tmp sleeper
wait"""


def test_hanging_pieces_are_killed_with_their_children():
    stub("test_ops", HANGS)
    _, pieces, _ = check("--only", "op suite: layout", "--timeout", "0.5", status=1)
    expect_piece(pieces["op suite: layout"], status="timed out", why="0.5 s", line="on the way")
    expect_dead(Path("out/sleeper"))


def test_nothing_goes_on_after_its_minutes():
    stub("test_ops", HANGS)
    began = time.monotonic()
    _, pieces, _ = check("--only", "op suite*", "--timeout", "1.2", "--jobs", "1", "--minutes", "0.025", status=1)
    expect(time.monotonic() - began < 20, "it went on")
    expect_piece(pieces["op suite: gradients agree"], status="timed out", why="1.2 s")
    rest = [piece for piece in pieces.values() if piece["name"] != "op suite: gradients agree"]
    late = [piece for piece in rest if piece["status"] == "skipped" and piece["why"] == "0 s left"]
    expect(len(late) >= len(rest) - 1, rest)
    expect_dead(Path("out/sleeper"))


def test_a_signal_ends_it_with_a_report():
    stub("test_ops", HANGS)
    for number in signal.SIGTERM, signal.SIGINT:
        Path("out/sleeper").unlink(missing_ok=True)
        process = subprocess.Popen(command("--only", "op suite*", "--jobs", "1"), stdout=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 20
        while not Path("out/sleeper").exists():
            expect(time.monotonic() < deadline, "no piece started")
            time.sleep(0.02)
        process.send_signal(number)
        printed, _ = process.communicate(timeout=20)
        name = signal.Signals(number).name
        expect(process.returncode == 128 + number, f"exit status {process.returncode} after {name}")
        report, pieces = result()
        expect(report["stopped"] == name, report["stopped"])
        expect(all(piece["why"] == f"stopped by {name}" for piece in pieces.values()), report["pieces"])
        expect("report.json" in printed.splitlines()[-1], printed)
        expect_dead(Path("out/sleeper"))


def test_bad_options():
    for options, says in ((["--programs", "none"], "expected tandem, test_ops or test_cuda below"),
                          (["--programs", str(BUILD), "--only", "nothing*"], "no piece is called 'nothing*'")):
        done = subprocess.run(command(*options), capture_output=True, text=True, timeout=20)
        expect(done.returncode == 2 and says in done.stderr, done)


run_cases(globals())
