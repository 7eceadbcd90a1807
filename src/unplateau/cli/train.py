"""``unplateau train``: one run of a recipe or of a spec file."""

from __future__ import annotations

from pathlib import Path

from unplateau.cli.types import Folder, Given, Settings


def train(
    spec: Given,
    /,
    *,
    set_: Settings = (),
    seed: int | None = None,
    out: Folder = Path("runs"),
    resume: bool = True,
    device: str = "auto",
    threads: int | None = None,
) -> None:
    """Trains one run; the same command again resumes it, or does nothing when it is finished.

    Ctrl-C and SIGTERM save a checkpoint first.

    Args:
        spec: name of a recipe (demo, digits), or a .yaml or .json file with the keys of a run
        set_: change one key of the spec, e.g. train.steps=300, strategy=mixed+component-loss, task.n_mappings=null
        seed: decides initial weights and batches; default: that of the spec
        out: folder that run directories are made in
        resume: go on where an earlier process stopped; with --no-resume an existing run is refused
        device: auto (a GPU if there is one), cpu, cuda, cuda:1 ...
        threads: CPU threads of PyTorch; default: its own choice
    """
    from unplateau.cli.training import train_here  # noqa: PLC0415

    train_here(spec, set_, seed=seed, out=out, resume=resume, device=device, threads=threads)
