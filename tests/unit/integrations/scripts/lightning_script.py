"""A LightningModule around a causal language model, on associative recall: which label had this key before?"""

import sys

import lightning
import torch
from torch.utils.data import DataLoader
from transformers import GPT2Config, GPT2LMHeadModel

n_keys, n_labels, n_pairs, keys_per_prompt = 64, 4, 24, 8


class LanguageModel(lightning.LightningModule):
    """Loss and optimiser."""

    def __init__(self, config):
        super().__init__()
        self.model = GPT2LMHeadModel(config)
        self.losses = []

    def training_step(self, batch, batch_idx):
        """The loss of one batch: labels alone are predicted."""
        loss = self.model(input_ids=batch, labels=batch.masked_fill(batch < n_keys, -100)).loss
        self.losses.append(loss.item())
        return loss

    def configure_optimizers(self):
        """AdamW for everything."""
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


def prompts(number):
    """Key label key label ...: a few keys, again and again, each with one label in this prompt."""
    drawn = torch.Generator().manual_seed(1)
    keys = torch.rand(number, n_keys, generator=drawn).topk(keys_per_prompt).indices
    labels = n_keys + torch.randint(n_labels, keys.shape, generator=drawn)
    which = torch.randint(keys_per_prompt, (number, n_pairs), generator=drawn)
    return torch.stack((keys.gather(1, which), labels.gather(1, which)), 2).flatten(1)


def main(out="runs", steps="300"):
    """Trains, and prints the losses."""
    lightning.seed_everything(0)
    without_dropout = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    config = GPT2Config(vocab_size=68, n_positions=48, n_embd=64, n_layer=2, n_head=1, **without_dropout)
    module = LanguageModel(config)
    loader = DataLoader(prompts(6400), batch_size=32, shuffle=True)
    off = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "accelerator": "cpu"}
    trainer = lightning.Trainer(max_steps=int(steps), default_root_dir=out, **off)
    trainer.fit(module, loader)
    print("losses", module.losses[9::10])


if __name__ == "__main__":
    main(*sys.argv[1:])
