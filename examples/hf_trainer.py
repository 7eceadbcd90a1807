"""Causal language modelling with the Trainer of transformers, on sentences of a toy grammar."""

import random
import sys

import torch
from transformers import GPT2Config, GPT2LMHeadModel, TrainingArguments, default_data_collator, set_seed

import unplateau as up
from unplateau.integrations.trainer import StrategyTrainer, UnplateauCallback

GRAMMAR = [
    ["the", "a", "this", "that"],
    ["red", "small", "old", "wet"],
    ["cat", "house", "river", "tree", "boat", "stone"],
    ["sees", "makes", "finds", "likes"],
    ["."],
]
SENTENCE = (0, 1, 2, 3, 0, 2, 4)
WORDS = [word for words in GRAMMAR for word in words]


def blocks(number, length):
    """Blocks of equal length, cut out of one long text."""
    chosen = random.Random(1)
    text = [chosen.choice(GRAMMAR[part]) for _ in range(number * length // len(SENTENCE) + 1) for part in SENTENCE]
    tokens = [WORDS.index(word) for word in text]
    cut = [tokens[start : start + length] for start in range(0, number * length, length)]
    return [{"input_ids": block, "labels": block} for block in cut]


def main(out="runs", steps="200", weight="0.1"):
    """Trains, and prints the loss of every tenth step."""
    set_seed(0)
    config = GPT2Config(vocab_size=len(WORDS), n_positions=32, n_embd=32, n_layer=2, n_head=2)
    fixed = {"report_to": "none", "disable_tqdm": True, "use_cpu": True, "save_strategy": "no"}
    arguments = TrainingArguments(
        out, max_steps=int(steps), per_device_train_batch_size=8, learning_rate=1e-3, logging_steps=10, **fixed
    )
    model, data = GPT2LMHeadModel(config), blocks(400, 32)
    trainer = StrategyTrainer(
        strategy=up.Strategy(up.ComponentLoss(weight=float(weight))),
        annotation=torch.tensor([part for part, words in enumerate(GRAMMAR) for _ in words]),
        callbacks=[UnplateauCallback()],
        model=model,
        args=arguments,
        train_dataset=data,
        data_collator=default_data_collator,
    )
    trainer.train()
    print("losses", [row["loss"] for row in trainer.state.log_history if "loss" in row])


if __name__ == "__main__":
    main(*sys.argv[1:])
