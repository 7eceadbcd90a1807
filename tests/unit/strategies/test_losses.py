"""What the loss terms read."""

from dataclasses import replace

import torch

from unplateau.decompose import decompose, predict
from unplateau.items.codes import RandomCodes
from unplateau.models.transformer import ModelConfig, Transformer
from unplateau.strategies.base import LossTerm
from unplateau.strategies.losses import ComponentLoss, WeightsLoss
from unplateau.tasks.factors import FactorTask
from unplateau.tensors import Batch
from unplateau.train.given import Given
from unplateau.train.host import BatchView, TaskHost

TASK = FactorTask(source=RandomCodes(sizes=(4, 3, 2)), hidden=("a", "b"), n_pairs=6)
MODEL = Transformer(ModelConfig(n_layers=2, width=16), TASK.shape)
HOST = TaskHost(2, 16, TASK.shape, True)


def value(term: LossTerm, batch: Batch) -> float:
    torch.manual_seed(0)
    head = term.build_head(HOST)
    view = BatchView(term, MODEL, TASK, batch, predict(MODEL, batch.inputs), Given(0, torch.device("cpu")), 0, head)
    return float(term.value(view).detach())


def other_labels(batch: Batch) -> Batch:
    inputs = replace(batch.inputs, labels=(batch.inputs.labels + 1) % 4)
    return Batch(inputs, batch.targets, batch.factors, batch.hidden_factor, batch.item_index)


def test_component_loss_sees_no_context_and_weights_loss_does() -> None:
    batch = TASK.sample(0, batch_size=5)
    for cut in ("self", "identity", "zero"):
        assert value(ComponentLoss(cut=cut), batch) == value(ComponentLoss(cut=cut), other_labels(batch))
    assert value(WeightsLoss(), batch) != value(WeightsLoss(), other_labels(batch))


def test_component_loss_reads_the_component_that_decompose_shows() -> None:
    batch = TASK.sample(0, batch_size=5)
    term = ComponentLoss(layer=1)
    torch.manual_seed(0)
    head = term.build_head(HOST)
    component = decompose(MODEL, batch.inputs).weights[1][:, ::2]
    wanted = head.loss(MODEL.normalise(component).flatten(0, 1), batch.factors[..., :2].flatten(0, 1))  # type: ignore[operator]
    torch.testing.assert_close(torch.tensor(value(term, batch)), wanted.detach())


def test_rows_are_the_first_prompts() -> None:
    batch, fewer = (TASK.sample(0, batch_size=5) for _ in range(2))
    cut = Batch(
        fewer.inputs.map(lambda tensor: tensor[:2]),
        fewer.targets[:2],
        fewer.factors[:2],
        fewer.hidden_factor[:2],
        fewer.item_index[:2],
    )
    assert abs(value(ComponentLoss(rows=2), batch) - value(ComponentLoss(), cut)) < 1e-6


def test_factors_are_those_that_may_be_hidden_unless_all_are_asked_for() -> None:
    assert WeightsLoss().build_head(HOST).sizes == [4, 3]
    assert WeightsLoss(factors="all").build_head(HOST).sizes == [4, 3, 2]


def test_a_perfect_read_out_has_no_loss() -> None:
    term = ComponentLoss()
    head = term.build_head(TaskHost(2, 7, TASK.shape, True))
    factors = torch.tensor([[0, 1, 0], [3, 2, 1]])
    hidden = torch.cat(
        [torch.nn.functional.one_hot(factors[:, 0], 4), torch.nn.functional.one_hot(factors[:, 1], 3)], 1
    )
    with torch.no_grad():
        head.linear.weight.copy_(50 * torch.eye(7))  # type: ignore[union-attr, operator]
        head.linear.bias.zero_()  # type: ignore[union-attr, operator]
        assert float(head.loss(hidden.float(), factors[:, :2])) < 1e-6  # type: ignore[operator]
