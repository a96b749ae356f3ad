"""Several processes by MPI's launcher, and what is left of them."""

import os
import subprocess


def environment():
    """For a launcher in the present folder: more ranks than cores, also as root, without ssh, and in a container that
    forbids one process to read another's memory; what a killed rank leaves goes with the folder. A host whose own name
    nobody knows (no /etc/hosts) is asked for once, not for five seconds."""
    return {"RES_OPTIONS": "timeout:1 attempts:1", "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
            "OMPI_MCA_rmaps_base_oversubscribe": "1", "OMPI_MCA_hwloc_base_binding_policy": "none", "OMPI_MCA_plm": "isolated", "OMPI_MCA_mpi_yield_when_idle": "1",
            "OMPI_MCA_btl_vader_single_copy_mechanism": "none", "OMPI_MCA_btl_vader_backing_directory": os.getcwd(),
            "OMPI_MCA_orte_tmpdir_base": os.getcwd()}


def why_not(launcher):
    """What keeps the launcher itself from starting two processes, of which nothing is learned of ours; "" if nothing."""
    done = subprocess.run([launcher, "-n", "2", "true"], env={**os.environ, **environment()}, capture_output=True, text=True)
    return f"`mpirun -n 2 true` fails: {done.stdout}{done.stderr}" if done.returncode else ""


def of_session(process):
    """The processes that are there of those that `process`, a session of its own, has started; itself, too."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat") as f:
                state, _, _, session = f.read().rsplit(")", 1)[1].split()[:4]
            # A killed process may have threads, and hold its files, when its first thread is a zombie.
            threads = len(os.listdir(f"/proc/{pid}/task"))
        except OSError:
            continue
        if int(session) == process.pid and (state != "Z" or threads > 1):
            found.append(int(pid))
    return found
