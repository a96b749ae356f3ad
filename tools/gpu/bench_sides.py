"""The programs that tools/gpu/bench measures: where they are, and talking to them."""
import os
import queue
import signal
import subprocess
import sys
import threading
from pathlib import Path

HERE = Path(__file__).resolve().parent


class Failed(Exception):
    pass


def end(process):
    """Ends it and what it has started: compilers."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


class Side:
    """A program of one side: started when it is first needed, and again after it has failed."""

    def __init__(self, command, environment, log):
        self.command, self.environment, self.log = command, environment, log
        self.process = None

    def begin(self, line):
        if self.process is None:
            self.process = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                            stderr=self.log, text=True, env=self.environment,
                                            start_new_session=True)
            self.answers = queue.SimpleQueue()
            threading.Thread(target=self._read, args=(self.process, self.answers), daemon=True).start()
        try:
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()
        except OSError:
            pass  # it has ended, as the answer says

    def is_done(self):
        return not self.answers.empty()

    def answer(self, timeout):
        """To the line that was begun; Failed where it crashed, says that it failed, or is silent for longer."""
        try:
            answer = self.answers.get(timeout=max(0.1, timeout))
        except queue.Empty:
            self.stop()
            raise Failed(f"no answer within {timeout:.0f} s") from None
        if answer is None:
            status = self.process.wait()
            self.stop()
            raise Failed(f"it ended with status {status}")
        if answer.startswith("error:"):
            self.stop()
            raise Failed(answer[7:])
        return answer

    def seconds(self, runs, case, timeout):
        self.begin(f"{runs} {case}")
        answer = self.answer(timeout)
        try:
            return float(answer)
        except ValueError:
            self.stop()
            raise Failed(f"it answered '{answer}'") from None

    def drop(self):
        """Lets go of the cases it has built."""
        if self.process is not None:
            self.begin("drop")
            try:
                self.answer(20)
            except Failed:
                pass  # and is started again

    def stop(self):
        if self.process is not None:
            end(self.process)
            self.process = None

    @staticmethod
    def _read(process, answers):
        for line in process.stdout:
            answers.put(line.strip())
        answers.put(None)


class Compilers:
    """Compiles what later rows need beside the rows before them: a process for each case, which then measures it."""

    AT_ONCE = 3

    def __init__(self, cases, make_side):
        self.waiting, self.sides, self.make_side = list(dict.fromkeys(cases)), {}, make_side
        self.running()

    def running(self):
        """Begins what may begin; how many are compiling now."""
        running = sum(not side.is_done() for side in self.sides.values())
        while self.waiting and running < self.AT_ONCE:
            self._begin(self.waiting[0])
            running += 1
        return running

    def take(self, case, timeout):
        """The side that has compiled it, no longer ours to stop; Failed where it has failed."""
        if case in self.waiting:
            self._begin(case)
        side = self.sides.pop(case)
        side.answer(timeout)
        return side

    def stop(self):
        for side in self.sides.values():
            side.stop()

    def _begin(self, case):
        self.waiting.remove(case)
        self.sides[case] = self.make_side()
        self.sides[case].begin(f"1 {case}")


def find_program(name, programs):
    if programs:
        roots = [Path(programs)]
    elif (HERE.parent / "bin").is_dir():
        roots = [HERE.parent]
    else:
        roots = [HERE.parents[1] / "build"]
    for root in roots:
        for folder in ("", "bin", "tools", "tests", "tests/cuda"):
            if (root / folder / name).is_file():
                return root / folder / name
    sys.exit(f"bench: no {name} in {roots[0]}, nor in its bin, tools or tests; --programs names another folder")


def torch_script():
    for path in (HERE / "torch_side.py", HERE.parents[1] / "tools/bench/peers/torch_side.py"):
        if path.is_file():
            return path
    return None


def find_torch(device, timeout):
    """The command of PyTorch's side and its version, or None and why it is not measured."""
    script = torch_script()
    if device == "cudasim":
        return None, "PyTorch has no simulated device"
    if script is None:
        return None, "there is no torch_side.py"
    say = "import torch; print(torch.__version__, torch.version.cuda)"
    if device == "cuda":
        say += "; torch.zeros(1, device='cuda')"
    try:
        done = subprocess.run([sys.executable, "-c", say], capture_output=True, text=True, timeout=timeout)
    except subprocess.TimeoutExpired:
        return None, f"importing PyTorch takes more than {timeout:.0f} s"
    if done.returncode:
        return None, (done.stderr.strip().splitlines() or ["its import fails"])[-1]
    return [sys.executable, str(script), device], "PyTorch {0}, CUDA {1}".format(*done.stdout.split())


def gpu_name():
    try:
        query = "name,driver_version,clocks.max.sm,power.limit"
        done = subprocess.run(["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader"], capture_output=True,
                              text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return "cuda"
    return done.stdout.strip() or "cuda"


def library_path(environment):
    """Adds the CUDA libraries of Python packages to the loader's path: cuDNN opens NVRTC by its name."""
    try:
        import nvidia
    except ImportError:
        return
    folders = [f for root in nvidia.__path__ for f in (Path(root) / "cu13/lib", Path(root) / "cudnn/lib") if f.is_dir()]
    known = environment.get("LD_LIBRARY_PATH")
    environment["LD_LIBRARY_PATH"] = ":".join([*([known] if known else []), *map(str, folders)])
