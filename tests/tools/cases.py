"""The cases of a test script: its functions test_..., each in an empty folder of its own."""

import os
import subprocess
import sys
import tempfile
import time

MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # no disk to wait for


class Failure(Exception):
    pass


class Skip(Exception):
    pass


def expect(holds, message):
    if not holds:
        raise Failure(message)


def run_cases(script, prepare=lambda: None):
    """Of the names in `script`, its globals(), in their order; prepare() comes before each. Ends the process."""
    passed = failed = 0
    for name, test in [(n, t) for n, t in script.items() if n.startswith("test_")]:
        start = time.time()
        with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
            os.chdir(folder)
            try:
                prepare()
                test()
                passed += 1
                print(f"ok      {name[5:]} ({time.time() - start:.1f} s)", flush=True)
            except Skip as reason:
                print(f"skipped {name[5:]}: {reason}", flush=True)
            except Failure as failure:
                failed += 1
                print(f"FAILED  {name[5:]}: {failure}", flush=True)
            except (subprocess.SubprocessError, OSError, LookupError, ValueError) as error:
                failed += 1
                print(f"FAILED  {name[5:]}: {error!r}", flush=True)
            finally:
                os.chdir("/")
    print(f"{passed} passed, {failed} failed")
    sys.exit(failed > 0)
