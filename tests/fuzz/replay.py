"""Gives each target its seeds and regressions, without libFuzzer.   replay.py PROGRAM...   (replay_TARGET)"""
import pathlib
import subprocess
import sys
import tempfile

import seeds


def main(programs):
    regressions = pathlib.Path(__file__).parent / "regressions"
    failed = []
    with tempfile.TemporaryDirectory() as folder:
        seeds.write(folder)
        for program in programs:
            target = pathlib.Path(program).name.removeprefix("replay_")
            folders = [p for p in (pathlib.Path(folder, target), regressions / target) if p.is_dir()]
            run = subprocess.run([program, *folders], text=True, errors="replace", stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            lines = run.stdout.splitlines() or ["no output"]
            print(f"{target:<12} {lines[-1] if run.returncode == 0 else f'FAILED ({run.returncode})'}", flush=True)
            if run.returncode != 0:
                failed.append(target)
                print(*(f"    {line}" for line in lines[-30:]), sep="\n", flush=True)
    sys.exit(f"failed: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main(sys.argv[1:])
