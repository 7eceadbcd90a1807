"""The layers that a Transformer is made of: PyTorch's own, with what the model asks of their weights as methods.

Nothing else reads these weights, so that those of several models can stand in their place (``unplateau.models.stack``).
"""

from torch import Tensor, nn
from torch.nn import functional


class Linear(nn.Linear):
    """A linear map with a bias."""

    def by_rows(self, x: Tensor, rows: slice) -> Tensor:
        """(..., D) -> (..., R): these outputs alone."""
        return functional.linear(x, self.weight[rows], self.bias[rows])


class Embedding(nn.Embedding):
    """A vector for each token, label, cue or position."""

    def by_rows(self, x: Tensor, rows: slice) -> Tensor:
        """(..., D) -> (..., R): the products with these vectors, as where an embedding predicts."""
        return functional.linear(x, self.weight[rows])

    def added(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D): each position with its vector."""
        return x + self.weight[: x.shape[1]]
