"""A LightningModule around a causal language model, on random walks over the numbers 0 .. 31."""

import sys

import lightning
import torch
from torch.utils.data import DataLoader
from transformers import GPT2Config, GPT2LMHeadModel


class LanguageModel(lightning.LightningModule):
    """Loss and optimiser."""

    def __init__(self, config):
        super().__init__()
        self.model = GPT2LMHeadModel(config)
        self.losses = []

    def training_step(self, batch, batch_idx):
        """The loss of one batch."""
        loss = self.model(input_ids=batch, labels=batch).loss
        self.losses.append(loss.item())
        return loss

    def configure_optimizers(self):
        """AdamW for everything."""
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


def walks(number, length):
    """Each token is the one before plus 1, 2 or 3, modulo 32."""
    steps = torch.randint(1, 4, (number, length), generator=torch.Generator().manual_seed(1))
    return steps.cumsum(1) % 32


def main(out="runs", steps="200"):
    """Trains, and prints the losses."""
    lightning.seed_everything(0)
    config = GPT2Config(vocab_size=32, n_positions=24, n_embd=32, n_layer=2, n_head=2)
    module = LanguageModel(config)
    loader = DataLoader(walks(640, 24), batch_size=8, shuffle=True)
    off = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "accelerator": "cpu"}
    trainer = lightning.Trainer(max_steps=int(steps), default_root_dir=out, callbacks=[], **off)
    trainer.fit(module, loader)
    print("losses", module.losses[9::10])


if __name__ == "__main__":
    main(*sys.argv[1:])
