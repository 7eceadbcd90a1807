"""What the names of columns say: whether it is a curve to look at, how likely the one meant, and which way it goes."""

import re
from typing import Literal

Direction = Literal["min", "max"]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_TRAINING = _words("train training tr trn inner")
_TESTING = _words("eval evaluation val valid validation validate dev test held out cv")
_ANYWAY = _words("step epoch avg average mean total batch running history logs metrics the cur lm")
_FALLING = _words(
    "error err perplexity ppl nll rmse mse mae wer cer bpb bpc bpt entropy ce xent crossentropy kl fid nats surprisal"
)
_RISING = _words(
    "acc accuracy acc1 acc5 top1 top5 reward rew return returns score f1 auc auroc bleu rouge map "
    "precision recall r2 success progress win winrate iou miou dice psnr ssim em correct mcc kappa elo "
    "likelihood logprob"
)
_REWARDS = _words("reward rew return returns r")
_ACCURACIES = _words("acc accuracy acc1 top1")
_OTHER = _words(
    "time wall elapsed eta timestamp seconds sec ms duration lr rate memory mem gpu cpu tokens samples "
    "throughput tps mfu fps flops tflops grad norm gnorm seed epoch step steps iter iters iteration "
    "iterations scale runtime second count index size wd updates timesteps wps ups momentum std stderr "
    "weight"
)
"""Words of columns that nobody looks for a plateau in."""
EXTREMES = re.compile(r"__(?:MIN|MAX)$")
"""What W&B adds to the names of columns that it exports besides the values."""


def words_of(name: str) -> list[str]:
    """The words of a column's name in small letters: ``train/valLoss`` has three."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", EXTREMES.sub("", name).split(" - ")[-1])
    return re.findall(r"[^\W_]+", spaced.lower())


def rank_of(name: str) -> int | None:
    """How likely this is the curve that is meant: 0 first, None if its name says nothing."""
    words = set(words_of(name))
    losses = {word for word in words if word.endswith(("loss", "losses"))}
    if losses and not words & {"scale", "weight", "time", "lr"}:
        return _rank_of_loss(words - losses - _ANYWAY)
    if words & _OTHER - _ANYWAY:
        return None
    return next((at for at, kind in enumerate((_FALLING, _ACCURACIES, _REWARDS), start=5) if words & kind), None)


def _rank_of_loss(others: set[str]) -> int:
    """By the other words of its name: nothing, training, testing, a part of the loss, and that in testing."""
    if others <= _TESTING | _TRAINING:
        return 0 if not others else 1 if others <= _TRAINING else 2
    return 4 if others & _TESTING else 3


def is_no_curve(name: str) -> bool:
    """Is it a time, a rate, a counter or the like?"""
    return bool(_OTHER & set(words_of(name)))


def direction_of(name: str) -> Direction | None:
    """Whether learning lowers or raises a curve of this name; None if the name does not say."""
    words = set(words_of(name)) | {"".join(words_of(name))}
    if words & _FALLING or any(word.endswith("loss") for word in words):
        return "min"
    return "max" if words & _RISING or words_of(name) == ["r"] else None


def counts_steps(name: str) -> bool:
    """Is it named like a step, whatever it is a step of (``validate step``)?"""
    return bool({"step", "iter", "iteration", "epoch", "batch", "update"} & set(words_of(name)[-1:]))
