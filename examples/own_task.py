"""A task of your own: which of two numbers is asked for? Checked against the laws, then trained."""

import sys

import torch

import unplateau as up
from unplateau.items.base import ItemSource
from unplateau.layout import Vectors
from unplateau.testing import check_task


class Dice(ItemSource):
    """Items are throws of two dice, seen as 12 noisy numbers; the factors are the two results."""

    throws: int = 2000

    factor_names = property(lambda self: ("first", "second"))
    factor_sizes = property(lambda self: (6, 6))
    form = property(lambda self: Vectors(12))

    def factors(self) -> torch.Tensor:
        """(N, 2) results from 0 to 5."""
        return torch.randint(6, (self.throws, 2), generator=torch.Generator().manual_seed(0))

    def vectors(self, index: torch.Tensor) -> torch.Tensor:
        """(..., 12): both results one-hot, plus noise that belongs to the throw."""
        clean = torch.nn.functional.one_hot(self.factors(), 6).flatten(1).float()
        noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(1))
        return (clean + 0.1 * noise)[index]

    def images(self, index: torch.Tensor):  # (..., 8, 48, 3), each number a grey stripe
        """The 12 numbers as grey stripes."""
        grey = (self.vectors(index).clamp(0, 1) * 255).byte().repeat_interleave(4, -1)
        return grey[..., None, :, None].expand(*index.shape, 8, 48, 3).numpy()


if __name__ == "__main__":
    out = sys.argv[1] if len(sys.argv) > 1 else "runs"
    steps = int(sys.argv[2]) if len(sys.argv) > 2 else 400
    task = up.FactorTask(source=Dice(), n_pairs=12)
    check_task(task, n_prompts=512)
    train = up.TrainConfig(steps=steps, batch_size=32)
    run = up.train(up.RunSpec(recipe="dice", task=task, model=up.ModelConfig(width=32), train=train), out=out)
    print(f"progress {run.history.last('progress'):.2f}, weights score {run.history.last('weights_score')}")
