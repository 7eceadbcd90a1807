"""Loss terms on tabular Transformers: rows stand with their labels, and the context is read in both directions."""

import logging
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from unplateau.errors import SpecError
from unplateau.integrations.attention import AttentionCapture, read
from unplateau.integrations.modules import PromptStrategy
from unplateau.strategies.prompt_losses import BindLoss, LookLoss, MatchLoss
from unplateau.strategies.strategy import Strategy

N_ROWS, N_ITEMS, CONTEXT, N_COLUMNS, WIDTH, HEADS = 8, 9, 6, 3, 16, 2
TERMS = Strategy(MatchLoss(share=0.5), LookLoss(share=0.5))


def tables(n_rows: int = N_ROWS) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    xs = torch.randn(n_rows, N_ITEMS, N_COLUMNS, generator=generator)
    return xs, torch.randint(3, (n_rows, N_ITEMS), generator=generator)


class Masked(nn.Module):
    """Attention over all rows of a table at once, with a mask that leaves the context and oneself."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.item, self.label = nn.Linear(N_COLUMNS, WIDTH), nn.Embedding(3, WIDTH)
        self.blocks = nn.ModuleList(self.block() for _ in "12")

    def block(self) -> nn.Module:
        return nn.TransformerEncoderLayer(WIDTH, HEADS, 32, dropout=0.0, batch_first=True)

    def forward(self, xs: Tensor, ys: Tensor) -> Tensor:
        x = self.item(xs) + functional.pad(self.label(ys), (0, 0, 0, xs.shape[1] - ys.shape[1]))
        hidden = torch.ones(x.shape[1], x.shape[1]).bool()
        hidden[:, : ys.shape[1]] = False
        hidden.fill_diagonal_(False)
        for block in self.blocks:
            x = block(x, src_mask=hidden)
        return x

    def alone(self, layer: int, xs: Tensor, ys: Tensor, **_: Any) -> Tensor:
        x = self.item(xs).flatten(0, 1)[:, None]
        for block in self.blocks[:layer]:
            x = block(x)
        return x.unflatten(0, xs.shape[:2])[:, :, 0]


class TwoCalls(nn.Module):
    """A block in which the context looks at itself and queries look at the context, one after the other; (T, B, D)."""

    def __init__(self) -> None:
        super().__init__()
        self.attention, self.norm = nn.MultiheadAttention(WIDTH, HEADS), nn.LayerNorm(WIDTH)

    def forward(self, x: Tensor, n_context: int) -> Tensor:
        context, queries = x[:n_context], x[n_context:]
        both = [self.attention(one, context, context)[0] for one in (context, queries)]
        return self.norm(x + torch.cat(both))


class PositionsFirst(nn.Module):
    """Arguments and states have their rows second; ``turned``: as the same model whose arguments have them first."""

    def __init__(self, *, turned: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.item, self.label = nn.Linear(N_COLUMNS, WIDTH), nn.Embedding(3, WIDTH)
        self.blocks = nn.ModuleList(TwoCalls() for _ in "12")
        self.turned = turned

    def forward(self, xs: Tensor, ys: Tensor) -> Tensor:
        xs, ys = (xs.transpose(0, 1), ys.T) if self.turned else (xs, ys)
        x = self.item(xs) + functional.pad(self.label(ys), (0, 0, 0, 0, 0, len(xs) - len(ys)))
        for block in self.blocks:
            x = block(x, len(ys))
        return x

    def alone(self, layer: int, xs: Tensor, ys: Tensor, **_: Any) -> Tensor:
        xs = xs.transpose(0, 1) if self.turned else xs
        x = self.item(xs).flatten(0, 1)[None]
        for block in self.blocks[:layer]:
            x = block(x, 1)
        return x.unflatten(1, xs.shape[:2])[0].transpose(0, 1)


class Cells(nn.Module):
    """States (B, T, C, D): attention among the cells of a row, then among the rows of a column, labels last."""

    class Block(nn.Module):
        """Both kinds of attention."""

        def __init__(self) -> None:
            super().__init__()
            self.cells, self.rows = (nn.MultiheadAttention(WIDTH, HEADS, batch_first=True) for _ in "12")
            self.norm = nn.LayerNorm(WIDTH)

        def forward(self, x: Tensor, n_context: int) -> Tensor:
            shape = x.shape
            x = x.flatten(0, 1)
            x = (x + self.cells(x, x, x)[0]).view(shape).transpose(1, 2).flatten(0, 1)
            context, queries = x[:, :n_context], x[:, n_context:]
            x = x + torch.cat([self.rows(one, context, context)[0] for one in (context, queries)], 1)
            return self.norm(x.view(shape[0], shape[2], shape[1], shape[3]).transpose(1, 2))

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.cell = nn.Linear(1, WIDTH)
        self.blocks = nn.ModuleList(self.Block() for _ in "12")

    def forward(self, xs: Tensor, ys: Tensor) -> Tensor:
        labels = functional.pad(ys.float(), (0, xs.shape[1] - ys.shape[1]), value=-1.0)
        x = self.cell(torch.cat((xs, labels[..., None]), 2)[..., None])
        for block in self.blocks:
            x = block(x, ys.shape[1])
        return x[:, :, -1]

    def alone(self, layer: int, xs: Tensor, ys: Tensor, **_: Any) -> Tensor:
        x = self.cell(functional.pad(xs, (0, 1), value=-1.0)[..., None]).flatten(0, 1)[:, None]
        for block in self.blocks[:layer]:
            x = block(x, 1)
        return x.unflatten(0, xs.shape[:2])[:, :, 0, -1]


def helped(model: Any, strategy: Strategy | str = TERMS, **more: Any) -> PromptStrategy:
    given = {"blocks": "blocks", "items": range(N_ITEMS), "labels": range(CONTEXT), "values": "targets"}
    return PromptStrategy(model, strategy, **(given | {"alone": model.alone} | more))


def test_a_transformer_that_reads_in_both_directions(caplog: pytest.LogCaptureFixture) -> None:
    xs, ys = tables()
    model = Masked()
    helper = helped(model, Strategy(*TERMS.parts, BindLoss()))
    model(xs, ys[:, :CONTEXT])
    with caplog.at_level(logging.WARNING):
        helper(xs, ys[:, :CONTEXT], targets=ys).backward()
    assert caplog.messages == ["BindLoss: labels stand at their items, so no label has a state of its own: left out"]
    assert helper.both_ways
    assert list(helper.last) == [term.name for term in TERMS.parts]
    refused = helped(model, alone=None)
    model(xs, ys[:, :CONTEXT])
    with pytest.raises(SpecError, match=r"give alone=: after the last block, position . depends on a label behind it"):
        refused(xs, ys[:, :CONTEXT], targets=ys)


def test_queries_are_asked_and_not_items_that_have_seen_their_label(caplog: pytest.LogCaptureFixture) -> None:
    xs, ys = tables()
    model = Masked()
    helper = helped(model, values=None)
    model(xs, ys[:, :CONTEXT])
    with caplog.at_level(logging.WARNING):
        helper(xs, ys[:, :CONTEXT])
    (line,) = caplog.messages
    assert "an item has seen its own label, and those of the queries are not known; give values=" in line
    assert list(helper.last) == [TERMS.parts[0].name]


def test_rows_may_be_the_second_dimension_of_everything() -> None:
    xs, ys = tables()
    values = []
    for turned in (True, False):
        model = PositionsFirst(turned=turned)
        helper = helped(model, batch_first=False)
        shown, targets = (ys[:, :CONTEXT], ys) if turned else (ys[:, :CONTEXT].T, ys.T)
        given = xs if turned else xs.transpose(0, 1)
        for _ in range(2):
            model(given, shown)
            helper(given, shown, targets=targets).backward()
        values.append(helper.last)
    torch.testing.assert_close(*values)
    assert len(values[0]) == 2


def test_attention_of_two_calls_is_that_of_one_with_a_mask() -> None:
    torch.manual_seed(0)
    module = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
    for each in (1, N_COLUMNS):  # as many rows of attention for each row of the batch
        x = torch.randn(N_ROWS * each, N_ITEMS, WIDTH)
        context, mask = x[:, :CONTEXT], torch.zeros(N_ITEMS, N_ITEMS, dtype=torch.bool)
        mask[:, CONTEXT:] = True
        cells = torch.randn(N_ROWS * N_ITEMS, N_ITEMS, WIDTH)
        _, wanted = module(x, x, x, attn_mask=mask, average_attn_weights=False)
        with AttentionCapture() as capture:
            module(cells, cells, cells)  # of as many columns as there are rows: positions look into themselves
            module(context, context, context)
            module(x[:, CONTEXT:], context, context)
        found = read(capture.found, N_ROWS, N_ITEMS, 5)
        torch.testing.assert_close(found, wanted.view(N_ROWS, -1, N_ITEMS, N_ITEMS)[:5])
        assert read(capture.found[:2], N_ROWS, N_ITEMS, 5) is None


def test_states_of_cells_are_shown_by_a_function() -> None:
    xs, ys = tables()
    model = Cells()
    helper = helped(model, states=lambda cells: cells[:, :, -1])
    losses = []
    optimiser = torch.optim.Adam([*model.parameters(), *helper.parameters()], lr=1e-2)
    for _ in range(12):
        model(xs, ys[:, :CONTEXT])
        loss = helper(xs, ys[:, :CONTEXT], targets=ys)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(helper.last)
    assert len(losses[0]) == 2
    assert all(losses[-1][name] < losses[0][name] for name in losses[0])


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({}, "a tensor (rows, positions, width); it is of shape (8, 9, 4, 16): give states="),
        (
            {"states": lambda cells: cells[:, 0, 0]},
            "of what enters block 1, which is of shape (8, 9, 4, 16); got of shape (8, 16)",
        ),
    ],
)
def test_states_that_cannot_be_read_are_refused(more: dict[str, Any], message: str) -> None:
    xs, ys = tables()
    model = Cells()
    helper = helped(model, **more)
    model(xs, ys[:, :CONTEXT])
    with pytest.raises(SpecError) as raised:
        helper(xs, ys[:, :CONTEXT], targets=ys)
    assert message in str(raised.value)


def test_averaged_cells_are_moved_together() -> None:
    """Whether a model reads in both directions is found by moving states, however they are made of a block's own."""
    xs, ys = tables()
    model = Cells()
    helper = helped(model, states=lambda cells: cells.mean(2))
    model(xs, ys[:, :CONTEXT])
    helper(xs, ys[:, :CONTEXT], targets=ys)
    assert helper.both_ways
