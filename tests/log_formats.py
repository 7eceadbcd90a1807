"""One curve as many programs log it. Writers take steps and losses; what a reader should choose stands beside them."""

import json
from collections.abc import Callable, Sequence
from typing import NamedTuple

Pairs = Sequence[tuple[int, float]]

CURVE: Pairs = [(10 * k, round(4 - 0.25 * k + 0.01 * (k % 3), 4)) for k in range(12)]


class Format(NamedTuple):
    """A program's way of writing a curve; ``step`` None: the row; ``steps`` if they are not the curve's."""

    write: Callable[[Pairs], str]
    value: str = "loss"
    step: str | None = "step"
    steps: Callable[[int], float] | None = None
    direction: str = "min"


def lines(*texts: str) -> str:
    return "".join(f"{text}\n" for text in texts)


def table(between: str, header: str = "step,loss,lr") -> Callable[[Pairs], str]:
    def write(curve: Pairs) -> str:
        rows = [(str(s), str(v), "0.001") for s, v in curve]
        return lines(*(between.join(row) for row in [header.split(","), *rows]))

    return write


def each(line: Callable[[int, float], str], *before: str) -> Callable[[Pairs], str]:
    return lambda curve: lines(*before, *(line(s, v) for s, v in curve))


def trainer_state(curve: Pairs) -> str:
    rows = [{"epoch": s / 50, "learning_rate": 1e-4, "loss": v, "step": s} for s, v in curve]
    rows[4:4] = [{"epoch": 0.8, "eval_loss": 3.1, "eval_runtime": 2.1, "step": 40}]
    last = {"epoch": 2.2, "total_flos": 1e15, "train_loss": 2.7, "train_runtime": 99.0, "step": curve[-1][0]}
    state = {"best_metric": None, "epoch": 2.2, "global_step": 110, "log_history": [*rows, last], "max_steps": 110}
    return json.dumps(state, indent=2)


def nano_gpt(curve: Pairs) -> str:
    said = ["tokens per iteration will be: 16,384", "number of parameters: 10.65M", "compiling the model..."]
    for s, v in curve:
        if s % 50 == 0:
            said += [f"step {s}: train loss {v - 0.1:.4f}, val loss {v + 0.1:.4f}", "saving checkpoint to out"]
        said.append(f"iter {s}: loss {v:.4f}, time {90 + s}.41ms, mfu {0.4 if s else -100.00:.2f}%")
    return lines(*said)


def blocks(curve: Pairs) -> str:
    """A box for each report, as Stable-Baselines3 prints it; the first has fewer rows."""
    said = []
    for s, v in [(-10, None), *curve]:
        said += ["-" * 30, "| rollout/           |          |", f"|    ep_len_mean     | {20 + s}  |"]
        said += ["| time/              |          |", f"|    total_timesteps | {s}     |"]
        said += ["| train/             |          |", f"|    loss            | {v}     |"] if v else []
        said += ["-" * 30]
    return lines(*said)


def composer(curve: Pairs) -> str:
    said = []
    for s, v in curve:
        said += [f"[batch={s}/4800]:", f"\t Train time/token: {s * 100}", f"\t Train loss/train/total: {v:.4f}"]
        said += ["\t Train metrics/train/TokenAccuracy: 0.1"]
    return lines(*said)


def keras_output(curve: Pairs) -> str:
    said = []
    for k, (_, v) in enumerate(curve, start=1):
        said += [f"Epoch {k}/12", f"1563/1563 - 5s - 3ms/step - accuracy: 0.31 - loss: {v:.4f} - val_loss: {v + 1:.4f}"]
    return lines(*said)


def caffe(curve: Pairs) -> str:
    said = []
    for s, v in curve:
        said.append(f"I0727 00:00:02.566174 1934443264 solver.cpp:228] Iteration {s}, loss = {v}")
        said.append(
            f"I0727 00:00:02.566234 1934443264 solver.cpp:244]     Train net output #0: loss = {v} (* 1 = {v} loss)"
        )
        said.append(f"I0727 00:00:02.566260 1934443264 sgd_solver.cpp:106] Iteration {s}, lr = 0.001")
    return lines(*said)


def lightning(curve: Pairs) -> str:
    rows = ["epoch,step,train_loss_epoch,train_loss_step,val_loss"]
    for s, v in curve:
        rows += [f"{s // 50},{s},,{v},", *([f"{s // 50},{s},3.0,,2.9"] if s % 50 == 40 else [])]
    return lines(*rows)


def wandb(curve: Pairs) -> str:
    name = "brisk-sun-3 - train/loss"
    header = f'"train/global_step","{name}","{name}__MIN","{name}__MAX"'
    return lines(header, *(f'"{s}","{v}","{v}","{v}"' for s, v in curve))


def model_card(curve: Pairs) -> str:
    head = ["| Training Loss | Epoch | Step | Validation Loss |", "|:-------------:|:-----:|:----:|:---------------:|"]
    return lines(*head, *(f"| No log        | {s / 50} | {s}   | {v}   |" for s, v in curve))


def progress_bar(curve: Pairs) -> str:
    return "\r".join(f"  {s}%|#4   | {s}/1000 [00:{s // 10:02}<03:10,  5.00it/s, loss={v}]" for s, v in curve) + "\n"


def zeros_and_ones(curve: Pairs) -> str:
    return "".join(
        json.dumps({"timestamp": 1.7e9 + s, "step": s, "loss": v, "scores": [0.1, 0.2]}) + "\n" for s, v in curve
    )


FORMATS = {
    "csv": Format(table(",")),
    "tsv": Format(table("\t")),
    "semicolons": Format(table(";")),
    "spaces": Format(table("  ")),
    "names with spaces, between wide spaces": Format(table("   ", "Step,Training Loss,LR"), "Training Loss", "Step"),
    "comment as header": Format(each(lambda s, v: f"{s} {v}", "# made on a Monday", "# step loss")),
    "comment before header": Format(each(lambda s, v: f"{s},{v}", "# made on a Monday", "step,loss")),
    "monitor": Format(
        each(lambda s, v: f"{v},{20 + s},{s / 7:.3f}", '#{"t_start": 1700000000.0, "env_id": "CartPole-v1"}', "r,l,t"),
        "r",
        "t",
        lambda s: round(s / 7, 3),
        "max",
    ),
    "two columns, no header": Format(each(lambda s, v: f"{s} {v}"), "column 2", "column 1"),
    "one column, no header": Format(each(lambda _, v: f"{v}"), "column 1", None, lambda s: s / 10),
    "one column": Format(each(lambda _, v: f"{v}", "loss"), "loss", None, lambda s: s / 10),
    "model card": Format(model_card, "Validation Loss", "Step"),
    "pandas with its index": Format(each(lambda s, v: f"{s // 10},{s},{v}", ",step,loss")),
    "lightning": Format(lightning, "train_loss_step"),
    "wandb export": Format(wandb, "brisk-sun-3 - train/loss", "train/global_step"),
    "json lines": Format(zeros_and_ones),
    "trainer state": Format(trainer_state),
    "json array": Format(lambda c: json.dumps([{"step": s, "loss": v} for s, v in c])),
    "keras history": Format(
        lambda c: json.dumps({"loss": [v for _, v in c], "val_loss": [v for _, v in c]}), "loss", None, lambda s: s / 10
    ),
    "history inside": Format(
        lambda c: json.dumps({"params": {"epochs": 3}, "history": {"loss": [v for _, v in c]}}),
        "history.loss",
        None,
        lambda s: s / 10,
    ),
    "columns and another length": Format(
        lambda c: json.dumps({"step": [s for s, _ in c], "loss": [v for _, v in c], "val_loss": [3.0, 2.0, 1.0]})
    ),
    "rows by step": Format(lambda c: json.dumps({str(s): {"loss": v} for s, v in c})),
    "values by step": Format(lambda c: json.dumps({str(s): v for s, v in c}), "value"),
    "pandas columns": Format(
        lambda c: json.dumps({n: {str(k): p[i] for k, p in enumerate(c)} for i, n in enumerate(["step", "loss"])})
    ),
    "tensorboard's export": Format(lambda c: json.dumps([[1.7e9 + s, s, v] for s, v in c]), "value"),
    "printed dicts": Format(
        each(lambda s, v: str({"loss": v, "grad_norm": 1.5, "epoch": s / 50})), "loss", "epoch", lambda s: s / 50
    ),
    "printed dicts of NumPy": Format(each(lambda s, v: f"{{'step': {s}, 'loss': np.float32({v}), 'lr': 1e-05}}")),
    "tensors": Format(each(lambda s, v: f"step {s} loss tensor({v}, device='cuda:0', grad_fn=<NllLossBackward0>)")),
    "nanoGPT": Format(nano_gpt, step="iter"),
    "modded-nanoGPT": Format(
        each(
            lambda s, v: f"step:{s}/3000 val_loss:{v:.4f} train_time:{36163 + s}ms step_avg:144.65ms",
            "import os",
            "=====",
        ),
        "val_loss",
    ),
    "build-nanogpt": Format(
        each(lambda s, v: f"step {s:5d} | loss: {v:.6f} | lr 6.0e-04 | norm: 0.2910 | dt: 338.1ms | tok/sec: 1550.10")
    ),
    "llm.c": Format(
        each(
            lambda s, v: (
                f"step {s:4d}/19560 | loss {v:.6f} (+0.00z)| norm 15.3 (-0.2z)| lr 8.57e-07 |"
                " 3056.4 ms | 42.6% bf16 MFU | 171537 tok/s"
            )
        )
    ),
    "Megatron": Format(
        each(
            lambda s, v: (
                f" [2024-01-02 03:04:05] iteration {s:8d}/   95367 | consumed samples: {4096 * s:12d} |"
                " elapsed time per iteration (ms): 769.9 | learning rate: 3.787E-06 | global batch size:  2048 |"
                f" lm loss: {v:.6E} | loss scale: 4096.0 | grad norm: 15906.210 | number of skipped iterations:   0 |"
            )
        ),
        "lm loss",
        "iteration",
    ),
    "fairseq": Format(
        each(
            lambda s, v: (
                f"2023-06-13 17:31:08 | INFO | train_inner | epoch 143: {s // 5 + 1:6d} / 282 loss={v},"
                f" nll_loss=1.236, ppl=8.86, wps=72384.3, num_updates={s}, lr=0.000157917, gnorm=0.489"
            ),
            "2023-06-13 17:30:21 | INFO | fairseq.trainer | begin training epoch 143",
        ),
        step="num_updates",
    ),
    "fairseq in JSON": Format(
        each(
            lambda s, v: (
                f'2021-03-08 12:31:36 | INFO | train_inner | {{"epoch": 1, "loss": "{v}",'
                f' "num_updates": "{s}", "lr": "2e-05"}}'
            )
        ),
        step="num_updates",
    ),
    "torchtitan": Format(
        each(
            lambda s, v: (
                f"[rank0]:[titan] 2025-10-30 14:32:59,163 - root - INFO - \x1b[31mstep: {s:2d}  \x1b[32m"
                f"loss: {v:8.4f}  grad_norm:  2.4  memory:  2.49GiB(3.14%)  tps: 189,694  tflops: 102.99\x1b[39m"
            )
        )
    ),
    "litgpt": Format(
        each(
            lambda s, v: (
                f"Epoch 1 | iter {s * 4} step {s} | loss train: {v:.3f}, val: n/a | iter time: 177.845 ms (step)"
            )
        ),
        "loss train",
    ),
    "imagenet example": Format(
        each(
            lambda s, v: (
                f"Epoch: [0][{s:4d}/5005]\tTime  0.108 (  0.263)\tLoss {v:.4e} (7.0e+00)\tAcc@1   0.00 (  0.10)"
            )
        ),
        "Loss",
        "count",
    ),
    "epoch, step of all": Format(each(lambda s, v: f"Epoch [1/10], Step [{s}/600], Loss: {v:.4f}"), "Loss", "Step"),
    "dashes": Format(each(lambda s, v: f"Step {s} - Loss: {v} - LR: 1e-4"), "Loss", "Step"),
    "words": Format(each(lambda s, v: f"step {s} loss {v}")),
    "sentence": Format(each(lambda s, v: f"The training loss is {v} at step {s}."), "training loss"),
    "TensorFlow": Format(each(lambda s, v: f"INFO:tensorflow:loss = {v}, step = {s} (1.2 sec)")),
    "logger and JSON": Format(each(lambda s, v: f'2024-01-02 03:04:05,678 INFO trainer {{"step": {s}, "loss": {v}}}')),
    "xgboost": Format(each(lambda s, v: f"[{s}]\ttrain-rmse:{v:.4f}"), "train-rmse", "count"),
    "progress bar": Format(progress_bar, step="count"),
    "Caffe": Format(caffe, step="Iteration"),
    "Keras output": Format(keras_output, "loss", "Epoch", lambda s: s / 10 + 1),
    "Composer": Format(composer, "Train loss/train/total", "batch"),
    "boxes": Format(blocks, step="total_timesteps"),
    "a word for the count": Format(
        each(lambda s, v: f"Steps:  {s // 10}%|#   | {s}/600 [01:2{s % 10}<10:00,  1.2s/it, lr=1e-5, step_loss={v}]"),
        "step_loss",
        "count",
    ),
    "levanter": Format(
        each(lambda s, v: f"INFO :: train:  {s}%|   | {s}.0/600it [rate:1.2s/it, remaining:00:10, postfix:loss={v}]"),
        step="count",
    ),
    "LightGBM": Format(
        each(lambda s, v: f"[{s}]\ttraining's binary_logloss: {v}\tvalid_1's binary_logloss: {v + 0.1}"),
        "training's binary_logloss",
        "count",
    ),
    "DeepSpeed": Format(
        each(
            lambda s, v: (
                f"[2023-01-01 00:00:00,123] [INFO] [logging.py:96:log_dist] [Rank 0] step={s}, skipped=0, lr=[9e-06]\n"
                f"steps: {s} loss: {v} iter time (s): 0.512 samples/sec: 31.250"
            )
        ),
        step="steps",
    ),
    "OLMo": Format(
        each(
            lambda s, v: (
                f"2024-01-01 00:00:00.123\thost:0\tolmo.train:967\tINFO\t[step={s}/739328]\n"
                f"    train/CrossEntropyLoss={v}\n    throughput/total_tokens=4,194,304"
            )
        ),
        "train/CrossEntropyLoss",
    ),
    "MLflow": Format(each(lambda s, v: f"{1700000000000 + s} {v} {s}"), "column 2", "column 3"),
    "percent sign before the header": Format(each(lambda s, v: f"{s} {v}", "% step loss")),
    "names and symbols in a header": Format(
        each(lambda s, v: f"{s // 10:3d}  {s:6d}  {v:12.4f}", "E    #       LOSS TOK2VEC", "---  ------  ------------"),
        "LOSS TOK2VEC",
        None,
        lambda s: s / 10,
    ),
    "objects of several lines": Format(lambda c: lines(*(json.dumps({"step": s, "loss": v}, indent=2) for s, v in c))),
    "logfmt": Format(
        each(lambda s, v: f'time="2024-01-01T00:00:00Z" level=info msg="a step" step={s} loss={v} lr=1e-3')
    ),
    "blank lines between": Format(each(lambda s, v: f"step = {s}\n  loss = {v}\n  acc = 0.1\n")),
    "CRLF": Format(lambda c: table(",")(c).replace("\n", "\r\n")),
}
