"""A training loop in one file; where the lines go, on a text without a plateau, on which the term changes nothing."""

import sys

import torch
from transformers import GPT2Config, GPT2LMHeadModel

from unplateau.integrations.tokens import TokenStrategy
from unplateau.integrations.watch import Watch

block_size, batch_size, accumulate = 32, 8, 2
learning_rate, warm_up, clip = 1e-3, 20, 1.0
n_words, n_topics = 64, 4


def corpus(length, seed):
    """A text whose topic changes now and then; a word belongs to the topic that is its number modulo 4."""
    generator = torch.Generator().manual_seed(seed)
    topic = torch.randint(n_topics, (length // 16 + 1,), generator=generator).repeat_interleave(16)[:length]
    return torch.randint(n_words // n_topics, (length,), generator=generator) * n_topics + topic


def get_batch(text):
    """Blocks that begin anywhere."""
    starts = torch.randint(len(text) - block_size, (batch_size,))
    return torch.stack([text[start : start + block_size] for start in starts])


def main(out="runs", steps="200", strategy="component-loss"):
    """Trains, and prints the loss of every tenth step."""
    torch.manual_seed(1337)
    text = corpus(20_000, seed=1)
    config = GPT2Config(vocab_size=n_words, n_positions=block_size, n_embd=32, n_layer=2, n_head=2)
    model = GPT2LMHeadModel(config)
    helper = TokenStrategy(model, strategy, "next")
    watch = Watch(f"{out}/metrics.jsonl")
    parameters = [*model.parameters(), *helper.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=learning_rate, betas=(0.9, 0.95), weight_decay=0.1)
    losses = []
    for step in range(int(steps)):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate * min(1, (step + 1) / warm_up)
        for _ in range(accumulate):
            x = get_batch(text)
            loss = model(input_ids=x, labels=x).loss
            ((loss + helper(x)) / accumulate).backward()
        torch.nn.utils.clip_grad_norm_(parameters, clip)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        if step % 10 == 9:
            losses.append(watch.record(step + 1, loss=loss.item())["loss"])
    print("losses", losses)


if __name__ == "__main__":
    main(*sys.argv[1:])
