"""A real Slurm of this machine alone, of this user, in a folder: its own ports, no accounting, arrays of two jobs."""

from __future__ import annotations

import getpass
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PROGRAMS = ("slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel", "scontrol")
PATIENCE = 30.0
"""Seconds until it must take jobs."""

CONFIGURATION = """
ClusterName=tests
SlurmctldHost=localhost
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/none
CredType=cred/none
SlurmctldPort={controller}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SlurmdParameters=config_overrides
SchedulerParameters=sched_min_interval=100000,sched_interval=1
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
ReturnToService=2
MaxArraySize=2
NodeName=node NodeHostname=localhost NodeAddr=127.0.0.1 Port={node} CPUs=4
PartitionName=main Nodes=ALL Default=YES MaxTime=10 State=UP
"""


def is_installed() -> bool:
    """Are all its programs here?"""
    return all(map(shutil.which, PROGRAMS))


@contextmanager
def slurm(folder: Path) -> Iterator[None]:
    """Its commands are those of this cluster as long as this goes on."""
    (folder / "state").mkdir(parents=True)
    (folder / "spool").mkdir()
    controller, node = _free_ports()
    file = folder / "slurm.conf"
    file.write_text(CONFIGURATION.format(user=getpass.getuser(), folder=folder, controller=controller, node=node))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(file))
        servers = [
            subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            for command in (("slurmctld", "-D"), ("slurmd", "-D", "-N", "node"))
        ]
        try:
            deadline = time.monotonic() + PATIENCE
            while "idle" not in _told("sinfo", "--noheader"):
                assert time.monotonic() < deadline, (folder / "slurmctld.log").read_text()
                time.sleep(0.2)
            yield
        finally:
            _told("scancel", "--me")
            for server in reversed(servers):
                server.terminate()
                server.wait(PATIENCE)


def _told(*command: str) -> str:
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=PATIENCE).stdout


def _free_ports() -> tuple[int, int]:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        return one.getsockname()[1], other.getsockname()[1]
