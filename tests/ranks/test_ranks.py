"""`mpirun -n N tandem train`: N ranks are the training of one, and end together.

  test_ranks.py PATH_TO_TANDEM PATH_TO_TEST_RANKS no|simulated [full]

simulated: there is a simulated device, whose sums are NCCL's.
full: also what takes most of a minute of waiting.
"""

import contextlib
import csv
import os
import shutil
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tools"))
import mpi
from cases import Skip, expect, run_cases

TANDEM, TEST_RANKS = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
SIMULATED = sys.argv[3] == "simulated"
FULL = len(sys.argv) > 4
ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "CUDA_VISIBLE_DEVICES"} | {"OMP_NUM_THREADS": "1"}
TRAIN = [TANDEM, "train", "classify", "--data", "texts", "--preset", "tiny", "--dim", "16", "--heads", "2",
         "--mlp-dim", "32", "--vocab-size", "40", "--batch-size", "8", "--lr", "0.01", "--schedule", "constant", "--warmup", "0",
         "--dropout", "0.2"]
ON_DEVICES = [TEST_RANKS, "--device=cudasim"]


def make_data():
    os.mkdir("texts")
    for split, count in (("train", 43), ("valid", 12), ("test", 12)):
        with open(f"texts/{split}.tsv", "w") as f:
            for i in range(count):
                words = " ".join("abcdefgh"[(i * k + k) % 8] for k in range(1, 2 + i % 7))
                f.write(f"{('night', 'day')[i % 2]}\t{'sun' if i % 2 else 'moon'} {words}\n")


def mpirun(n, *command):
    return [shutil.which("mpirun"), "-n", str(n), *map(str, command)]


def start(command):
    # A session of its own: what a case kills is all of it.
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            env={**ENVIRONMENT, **mpi.environment()}, start_new_session=True)


@contextlib.contextmanager
def environment(**variables):
    ENVIRONMENT.update(variables)
    try:
        yield
    finally:
        for name in variables:
            del ENVIRONMENT[name]


def finish(process, timeout=100):
    out, err = process.communicate(timeout=timeout)
    return process.returncode, out, err


def run(command, status=0):
    got, out, err = finish(start(command))
    expect(got == status, f"exit status {got}, expected {status}, of {command}\n{out}{err}")
    return out, err


def rows(folder):
    with open(f"{folder}/metrics.csv") as f:
        return [{k: float(v) for k, v in row.items() if v and k not in ("split", "samples_per_s", "seconds")}
                for row in csv.DictReader(f)]


def expect_same(a, b):
    expect(len(rows(a)) == len(rows(b)), f"{a} and {b} have other epochs")
    for x, y in zip(rows(a), rows(b)):
        for name in x:
            expect(abs(x[name] - y[name]) <= 2e-4 * max(1, abs(y[name])), f"{a}, {b}: {name}: {x[name]}, {y[name]}")


def ranks_of(process):
    """The processes of the ranks of a running mpirun, by rank."""
    found = {}
    for pid in mpi.of_session(process):
        try:
            with open(f"/proc/{pid}/environ") as f:
                variables = dict(v.split("=", 1) for v in f.read().split("\0") if "=" in v)
        except OSError:  # it has ended
            continue
        if "OMPI_COMM_WORLD_RANK" in variables:
            found[int(variables["OMPI_COMM_WORLD_RANK"])] = pid
    return found


def wait_for(condition, what, seconds=60):
    end = time.time() + seconds
    while not condition():
        expect(time.time() < end, f"{what}: not within {seconds} s")
        time.sleep(0.02)


def begin_long_run(name, *options):
    """A run that has saved, and goes on for long."""
    process = start(mpirun(2, *TRAIN, "--epochs", 10000, "--save-every", 5, "--run", name, *options))
    wait_for(lambda: os.path.exists(f"{name}/last.safetensors") or process.poll() is not None, "a checkpoint")
    expect(process.poll() is None, f"the run ended: {process.communicate() if process.poll() is not None else ''}")
    return process


def test_library_with_2_ranks():
    out, err = run(mpirun(2, TEST_RANKS))
    print("  " + next(line for line in out.splitlines() if "assertions" in line))


def test_library_with_3_ranks():
    run(mpirun(3, TEST_RANKS))


def test_a_simulated_device_each():
    if not SIMULATED:
        raise Skip("no CUDA part")
    for n, order in (2, ""), (3, "order=random,deferred=1,seed=random"):
        with environment(CUDASIM=order):
            out, err = run(mpirun(n, *ON_DEVICES, "-tc=an MLP in f32*,batch norm*"))
        expect(all(line.startswith("cudasim: seed=") for line in err.splitlines()), err)


def test_devices_that_nccl_does_not_join():
    if not SIMULATED:
        raise Skip("no CUDA part")
    asked_for = "unhandled system error: as was asked for"
    for n, options, failing, why in ((3, ["--one-device"], "", "ranks 0 and 1 have one GPU, 0000:01:00.0 of "),
                                     (3, [], "join 1", f"rank 1: ranks: ncclCommInitRank: {asked_for}"),
                                     (2, [], "sum 0", f"rank 0: ranks: ncclAllReduce: {asked_for}")):
        with environment(CUDASIM_NCCL=failing):
            out, err = run(mpirun(n, *ON_DEVICES, "--host-sums", "-tc=an MLP in f32*", *options))
        told = "ranks: gradients are added up in the host's memory, since NCCL does not join the GPUs: "
        expect(told + why in err and len(err.splitlines()) == 1, err)


MPI_THAT_TELLS = """
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
int MPI_Init_thread(int* argc, char*** argv, int required, int* provided) {
  const char* visible = getenv("CUDA_VISIBLE_DEVICES");
  fprintf(stderr, "MPI starts with %s\\n", visible ? visible : "all devices");
  return PMPI_Init_thread(argc, argv, required, provided);
}
"""


def test_a_rank_chooses_its_device_before_mpi_starts():
    if not (mpicc := shutil.which("mpicc")):
        raise Skip("no mpicc")
    with open("tells.c", "w") as f:
        f.write(MPI_THAT_TELLS)
    subprocess.run([mpicc, "-shared", "-fPIC", "tells.c", "-o", "tells.so"], check=True)
    preloaded = ["-x", f"LD_PRELOAD={os.path.abspath('tells.so')}"]
    command = [*mpirun(2, *preloaded, *TRAIN, "--epochs", 1, "--run", "x", "--device", "cuda")]
    status, out, err = finish(start(command))  # which fails where there are no two GPUs
    expect(sorted(line for line in err.splitlines() if line.startswith("MPI starts"))
           == ["MPI starts with 0", "MPI starts with 1"], err)
    with environment(CUDA_VISIBLE_DEVICES="5,3"):
        status, out, err = finish(start(command))
    expect("MPI starts with 5\n" in err and "MPI starts with 3\n" in err, err)


def test_cuda_that_was_started_before_the_choice_is_refused():
    if not SIMULATED:
        raise Skip("no CUDA part")
    modules = os.path.join(os.path.dirname(TEST_RANKS), "..", "cuda")
    command = [TANDEM, "gradcheck", "relu", "--device", "cudasim"]
    with environment(CUDA_VISIBLE_DEVICES="1", TANDEM_DEVICE_PATH=modules):
        run(command)
        with environment(CUDASIM="devices=2"):
            out, err = run(command, status=1)
    expect("CUDA_VISIBLE_DEVICES is '1', but cudaGetDeviceCount found 2: CUDA was started before" in err, err)


def test_ranks_are_one_run():
    run([*TRAIN, "--epochs", "4", "--run", "one"])
    for n in 2, 3:
        out, err = run(mpirun(n, *TRAIN, "--epochs", 4, "--run", f"ranks{n}"))
        expect(out.count("Run folder:") == 1 and f"1 threads on each of {n} ranks" in err, f"{out}{err}")
        expect(err.count("epoch 4/4") == 1, err)
        expect_same(f"ranks{n}", "one")
    expect(set(os.listdir("one")) - {n for n in os.listdir("one") if n.startswith("events.")}
           == set(os.listdir("ranks2")) - {n for n in os.listdir("ranks2") if n.startswith("events.")}, "other files")


def test_twice_the_same_bits_and_resumed_by_others():
    for name in "a", "b":
        run(mpirun(3, *TRAIN, "--epochs", 3, "--run", name))
    expect(open("a/best.safetensors", "rb").read() == open("b/best.safetensors", "rb").read(), "not the same bits")
    run([*TRAIN, "--epochs", "5", "--run", "whole"])
    shutil.copytree("a", "c")
    run([*TRAIN, "--resume", "--epochs", "5", "--run", "a"])
    run(mpirun(2, *TRAIN, "--resume", "--epochs", 5, "--run", "c"))
    expect_same("a", "whole"), expect_same("c", "whole")


def test_ranks_that_differ():
    command = mpirun(1, *TRAIN, "--epochs", 2, "--run", "x") + [":", *mpirun(1, *TRAIN, "--epochs", 3, "--run", "x")[1:]]
    out, err = run(command, status=2)
    expect("tandem: rank 1 differs from rank 0 in its --epochs: 3, not 2" in err, err)
    expect(err.count("tandem: ") == 1 and not os.path.exists("x"), err)


def test_an_error_is_told_once():
    out, err = run(mpirun(2, *TRAIN, "--epochs", 2, "--heads", 3, "--run", "x"), status=2)
    expect(err.count("heads 3 does not divide dim 16") == 1 and not os.path.exists("x"), err)
    out, err = run(mpirun(2, *TRAIN, "--epohcs", 2), status=2)
    expect(err.count("did you mean --epochs?") == 1, err)
    out, err = run(mpirun(2, *TRAIN, "--epochs", 2, "--method", "mixup", "--passes", 1, "--run", "x"), status=2)
    expect(err.count("ranks: this method's loss joins samples of a batch") == 1, err)
    out, err = run(mpirun(2, TANDEM, "sweep", "classify", "--run", "x"), status=2)
    expect("sweep: mpirun started 2 of it" in err, err)


def test_a_rank_that_is_killed_ends_all():
    process = begin_long_run("killed")
    os.kill(ranks_of(process)[1], signal.SIGKILL)
    status, out, err = finish(process, 60)
    expect(status != 0 and "rank 1" in err, f"{status} {err}")
    wait_for(lambda: not mpi.of_session(process), "the end of the other rank")
    out, err = run([TANDEM, "train", "classify", "--resume", "--run", "killed", "--max-time", "1s"], status=130)
    expect("is saved" in err, err)


def test_a_signal_and_a_limit_of_time_end_all_with_a_checkpoint():
    process = begin_long_run("signalled")
    os.kill(process.pid, signal.SIGUSR1)  # which mpirun hands on
    status, out, err = finish(process, 60)
    expect(status == 130 and err.count("is saved; `tandem train classify --run signalled --resume` goes on") == 1,
           f"{status} {err}")
    out, err = run(mpirun(2, *TRAIN, "--epochs", 10000, "--max-time", "1s", "--run", "limited"), status=130)
    expect(err.count("is saved") == 1, err)


def test_a_rank_that_is_stopped_ends_all():
    if not FULL:
        raise Skip("it takes half a minute of waiting; in the suite `full`")
    for rank in 1, 0:
        process = begin_long_run(f"stopped{rank}")
        os.kill(ranks_of(process)[rank], signal.SIGSTOP)
        begin = time.time()
        status, out, err = finish(process, 60)
        expect(status != 0 and f"rank {rank} has given no sign of life for 20 seconds" in err, f"{status} {err}")
        print(f"  rank {rank}: {time.time() - begin:.0f} s")
        wait_for(lambda: not mpi.of_session(process), "the end of all ranks")
        run([TANDEM, "train", "classify", "--resume", "--run", f"stopped{rank}", "--max-time", "1s"], status=130)


if why := mpi.why_not(shutil.which("mpirun")):
    print(f"several processes: {why}")
    sys.exit(77)
run_cases(globals(), make_data)
