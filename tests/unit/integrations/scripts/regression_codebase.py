"""In-context linear regression: a GPT-2 backbone reads x_1 y_1 x_2 y_2 ... as vectors and predicts each y at its x."""

import sys

import torch
from torch import nn
from transformers import GPT2Config, GPT2Model

n_dims, n_points, batch_size = 5, 16, 64
without_dropout = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
without_words = {"vocab_size": 1, "bos_token_id": None, "eos_token_id": None}


class TransformerModel(nn.Module):
    """Numbers stand in the first coordinate of vectors as wide as the points."""

    def __init__(self, n_embd=64, n_layer=3, n_head=2):
        super().__init__()
        sizes = {"n_positions": 2 * n_points, "n_embd": n_embd, "n_layer": n_layer, "n_head": n_head}
        self._read_in = nn.Linear(n_dims, n_embd)
        self._backbone = GPT2Model(GPT2Config(**sizes, **without_dropout, **without_words))
        self._read_out = nn.Linear(n_embd, 1)

    def forward(self, xs, ys):
        """(B, K, n_dims) and (B, K) -> (B, K)."""
        wide = torch.cat((ys[:, :, None], torch.zeros_like(xs[:, :, 1:])), 2)
        zs = torch.stack((xs, wide), 2).view(len(xs), 2 * xs.shape[1], n_dims)
        return self._read_out(self._backbone(inputs_embeds=self._read_in(zs)).last_hidden_state)[:, ::2, 0]


def main(out="runs", steps="600"):
    """Trains, and prints the squared error of the last five points: without any learning it is 1."""
    torch.manual_seed(0)
    model = TransformerModel()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    losses = []
    for step in range(int(steps)):
        xs = torch.randn(batch_size, n_points, n_dims)
        ys = (xs @ torch.randn(batch_size, n_dims, 1))[:, :, 0]
        error = (model(xs, ys) - ys).square()
        loss = error.mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 10 == 9:
            losses.append(round(error[:, -5:].mean().item() / n_dims, 3))
    print("losses", losses)


if __name__ == "__main__":
    main(*sys.argv[1:])
