"""A Slurm cluster of one node, this machine: Debian's packages, a configuration and a munge key in a temporary folder.

Nothing of it is a service, no accounts are kept, and when the context ends the packages alone are left. Two links in
/etc/slurm lead to the configuration: the executor plugin hides SLURM_CONF from the job steps. Only root can start it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PACKAGES = ("slurm-wlm", "munge")
PROGRAMS = ("munged", "slurmctld", "slurmd", "srun", "squeue")
ETC = Path("/etc/slurm")

# MinJobAge: squeue must know a job long after its end. Memory and the card are pretended: Slurm only counts them here.
CONFIGURATION = """\
ClusterName=one
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
MpiDefault=none
PropagateResourceLimits=NONE
SlurmdParameters=config_overrides
MinJobAge=3600
ReturnToService=2
GresTypes=gpu
NodeName=node NodeHostname={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=1000000 Gres=gpu:1 State=UNKNOWN
PartitionName=all Nodes=node Default=YES MaxTime=INFINITE State=UP
"""


@dataclass(frozen=True)
class Job:
    """A job as squeue tells it: the rule and wildcards that the plugin notes, its state, what it has of the node."""

    number: str
    state: str
    rule: str
    cpus: int
    cards: str


def jobs() -> list[Job]:
    """All jobs, those that have ended too."""
    columns = "JobID:|,State:|,Comment:200|,NumCPUs:|,tres-per-job:|"
    lines = _call("squeue", "--states=all", "--noheader", "--sort=i", f"--Format={columns}").splitlines()
    found = [[word.strip() for word in line.split("|")[:5]] for line in lines]
    return [Job(number, state, rule, int(cpus), cards) for number, state, rule, cpus, cards in found]


def cancel(job: Job) -> None:
    _call("scancel", job.number)


def install() -> None:
    """Debian's packages, if they are not there. RuntimeError without root, without apt-get, or where a cluster is."""
    if os.geteuid() != 0:
        raise RuntimeError("only root can install and start Slurm; run this test as root, in a container for instance")
    if "SLURM_CONF" in os.environ or (ETC / "slurm.conf").exists():
        raise RuntimeError("this machine belongs to a Slurm cluster; run this test on one that does not")
    if all(map(shutil.which, PROGRAMS)):
        return
    if not shutil.which("apt-get"):
        raise RuntimeError(f"this test installs {' and '.join(PACKAGES)} with apt-get, which is not here")
    apt = ["apt-get", "-q", "-o", "DPkg::Lock::Timeout=300"]
    quiet = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run([*apt, "update"], env=quiet, check=True)
    subprocess.run([*apt, "install", "-y", "--no-install-recommends", *PACKAGES], env=quiet, check=True)


@contextlib.contextmanager
def started(folder: Path, cpus: int) -> Iterator[None]:
    """The cluster, up, its files in a new folder; its jobs are cancelled and its daemons stopped at the end."""
    for name in ("state", "spool"):
        (folder / name).mkdir(parents=True)
    key = folder / "munge.key"
    key.touch(mode=0o600)
    key.write_bytes(os.urandom(1024))
    values = {"host": socket.gethostname(), "ports": _free_ports(2), "folder": folder, "cpus": cpus}
    (folder / "slurm.conf").write_text(CONFIGURATION.format(**values))
    (folder / "gres.conf").write_text("NodeName=node Name=gpu File=/dev/null\n")

    munge = {"socket": "socket", "key-file": "key", "pid-file": "pid", "seed-file": "seed", "log-file": "log"}
    with contextlib.ExitStack() as undone_later:

        def start(name: str, *options: str) -> None:
            log = undone_later.enter_context((folder / f"{name}.log").open("w"))
            process = subprocess.Popen([name, *options], stdout=log, stderr=log)
            undone_later.callback(_stop, process)

        for name in ("slurm.conf", "gres.conf"):
            (ETC / name).symlink_to(folder / name)
            undone_later.callback((ETC / name).unlink)
        start("munged", "--foreground", "--force", *(f"--{key}={folder}/munge.{end}" for key, end in munge.items()))
        _wait_for((folder / "munge.socket").exists, folder)
        start("slurmctld", "-D", "-c")
        start("slurmd", "-D", "-N", "node")
        _wait_for(_is_idle, folder)
        undone_later.callback(_wait_for, _is_idle, folder)
        undone_later.callback(_call, "scancel", "--partition=all")
        yield


def _call(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _is_idle() -> bool:
    """Whether Slurm says that the node is free; not while no one answers."""
    done = subprocess.run(["sinfo", "--noheader", "--format=%T"], capture_output=True, text=True)
    return done.stdout.strip() == "idle"


def _wait_for(happened, folder: Path, seconds: float = 60) -> None:
    """Until something has happened. RuntimeError with the ends of the daemons' logs if it does not."""
    deadline = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > deadline:
            logs = [f"{path.name}:\n{path.read_text()[-1500:]}" for path in sorted(folder.glob("*.log"))]
            raise RuntimeError("Slurm does not come up or come to rest:\n" + "\n".join(logs))
        time.sleep(0.2)


def _stop(process: subprocess.Popen) -> None:
    process.terminate()
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
