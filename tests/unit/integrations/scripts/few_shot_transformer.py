"""Few-shot classification by a Transformer written by hand: four classes of many in each prompt, labelled anew."""

import sys

import torch
from torch import nn

n_pairs, n_ways, n_classes, size, width = 12, 4, 256, 32, 64
means = torch.randn(n_classes, size, generator=torch.manual_seed(0)) / 2


class Block(nn.Module):
    """Attention of one head, then an MLP."""

    def __init__(self):
        super().__init__()
        self.ln, self.qkv, self.out = nn.LayerNorm(width), nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 256), nn.ReLU(), nn.Linear(256, width))

    def forward(self, x):
        """(B, T, D) -> (B, T, D)."""
        q_k_v = self.qkv(self.ln(x))[:, None].chunk(3, -1)
        x = x + self.out(nn.functional.scaled_dot_product_attention(*q_k_v, is_causal=True)[:, 0])
        return x + self.mlp(x)


class Model(nn.Module):
    """Reads x_1 y_1 x_2 y_2 ... and predicts each y at its x."""

    def __init__(self):
        super().__init__()
        self.item, self.label, self.head = nn.Linear(size, width), nn.Embedding(n_ways, width), nn.Linear(width, n_ways)
        self.position, self.blocks = nn.Parameter(0.3 * torch.randn(24, width)), nn.Sequential(Block(), Block())

    def forward(self, xs, ys):
        """(B, K, size) and (B, K) -> (B, K, n_ways)."""
        x = torch.stack((self.item(xs), self.label(ys)), 2).flatten(1, 2)
        return self.head(self.blocks(x + self.position[: x.shape[1]]))[:, ::2]


def main(out="runs", steps="400"):
    """Trains, and prints the loss of every tenth step."""
    model, losses = Model(), []
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(int(steps)):
        shown, ys = torch.rand(64, n_classes).topk(n_ways).indices, torch.randint(n_ways, (64, n_pairs))
        xs = means[shown.gather(1, ys)] + 0.1 * torch.randn(64, n_pairs, size)
        loss = nn.functional.cross_entropy(model(xs, ys).mT, ys)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(round(loss.item(), 3))
    print("losses", losses[9::10])


main(*sys.argv[1:])
