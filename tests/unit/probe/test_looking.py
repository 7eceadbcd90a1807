"""Queries that look: laws of the look score."""

import pytest
import torch
from torch import Tensor

from unplateau.probe.looking import Gaze, look_scores
from unplateau.strategies.functional import look_loss

B, H, K, VALUES = 64, 3, 10, 4
VISIBLE = (2 * torch.arange(K) + 1).expand(B, K)


def right(seed: int) -> Tensor:
    """(B, K, K): earlier items of the same value."""
    values = torch.randint(VALUES, (B, K), generator=torch.Generator().manual_seed(seed))
    return (values[:, :, None] == values[:, None]) & torch.ones(K, K).tril(-1).bool()


def gaze(seed: int, looking: int | None) -> Gaze:
    """Heads that look at every visible position alike; ``looking``: one that looks at the right labels only."""
    good = right(seed)
    uniform = torch.ones(K, K).tril(-1).double() / VISIBLE[..., None]
    attention = uniform[None, :, None].expand(1, B, H, K, K).clone()
    if looking is not None:
        attention[0, :, looking] = good.double() / good.sum(2, keepdim=True).clamp_min(1)
    return Gaze(attention, good, VISIBLE)


def test_a_head_that_looks_scores_1_whichever_it_is():
    for head in range(H):
        found = look_scores(gaze(0, head), gaze(1, head))
        assert found.score == pytest.approx(1)
        assert found.control < 0.5
        assert found.n_test == int(right(1).any(2).sum())


def test_a_head_that_looks_everywhere_is_at_chance():
    found = look_scores(gaze(0, None), gaze(1, None))
    assert abs(float(found.score) - found.chance) < 4 * float(found.error) + 0.02
    assert abs(float(found.control) - found.chance) < 0.05


def test_the_head_is_chosen_on_other_prompts():
    """A head that looks well in the test prompts alone is not taken."""
    train, test = gaze(0, 0), gaze(1, 0)
    test.attention[0, :, [0, 2]] = test.attention[0, :, [2, 0]]
    assert float(look_scores(train, test).score) < 0.4


def test_the_order_of_labels_does_not_matter():
    train, test = gaze(0, 1), gaze(1, 1)
    order = torch.randperm(K, generator=torch.Generator().manual_seed(0))
    mixed = [Gaze(one.attention[..., order], one.right[..., order], one.visible) for one in (train, test)]
    torch.testing.assert_close(look_scores(*mixed).score, look_scores(train, test).score)


def test_where_all_labels_are_right_the_control_is_what_stands_beside_them():
    """A head that looks at everything alike, and one that looks at labels."""
    everywhere, labels = gaze(0, None).attention, gaze(0, 0).attention[:, :, :1]
    all_right = torch.ones(K, K).tril(-1).bool().expand(B, -1, -1)
    for attention, beside in ((everywhere, everywhere), (labels, torch.zeros_like(labels))):
        one = Gaze(attention, all_right, VISIBLE, beside)
        found = look_scores(one, one)
        control = found.score if beside is everywhere else torch.zeros_like(found.score)
        torch.testing.assert_close(found.control, control)
        assert float(found.score) > 0.3


def of_numbers(seed: int, *, looking: int | None = None, scale: float = 1.0) -> Gaze:
    """Numbers of which each odd one is that of the pair before it; ``looking``: a head that looks one pair back."""
    numbers = torch.randn(B, K // 2, generator=torch.Generator().manual_seed(seed)).repeat_interleave(2, 1)
    attention = torch.rand(1, B, H, K, K, generator=torch.Generator().manual_seed(seed + 1)).tril(-1)
    if looking is not None:
        attention[0, :, looking] = torch.eye(K).roll(-1, 1).tril(-1)
        attention[0, :, looking, ::2] = 0
    return Gaze(attention, right(seed), VISIBLE, numbers=scale * numbers + scale)


def test_of_numbers_it_is_the_share_that_a_vote_explains():
    """Half of them can be known, and are by a head that looks right."""
    for head in range(H):
        found = look_scores(of_numbers(0, looking=head), of_numbers(2, looking=head))
        assert found.score == pytest.approx(K / 2 / (K - 1), abs=0.05)
        assert found.error < 0.05
        assert found.control < 0.05
    nothing = look_scores(of_numbers(0), of_numbers(2))
    assert nothing.score < 0.1
    assert nothing.n_test == B * (K - 1)


def test_of_numbers_it_is_what_look_loss_asks_for_of_one_head():
    test = of_numbers(2, looking=1)
    seen = torch.ones(K, K).tril(-1).bool().expand(B, -1, -1)
    loss = look_loss(test.attention[0, :, 1:2].double(), test.numbers.double(), test.numbers.double(), seen)
    assert float(look_scores(of_numbers(0, looking=1), test).score) == pytest.approx(1 - float(loss))


def test_of_numbers_of_one_prompt_nothing_is_known_of_the_error():
    test = of_numbers(2, looking=1)
    one = Gaze(test.attention[:, :1], test.right[:1], test.visible[:1], numbers=test.numbers[:1])
    assert look_scores(of_numbers(0, looking=1), one).error.isnan().all()


def test_of_numbers_neither_unit_nor_zero_matters():
    one, other = (
        look_scores(of_numbers(0, looking=1), of_numbers(2, looking=1, scale=scale)) for scale in (1.0, -30.0)
    )
    torch.testing.assert_close(one.score, other.score)
    torch.testing.assert_close(one.error, other.error)


def test_prompts_without_a_right_label_do_not_count():
    train, test = gaze(0, 1), gaze(1, 1)
    test.right[:5] = False
    found = look_scores(train, test)
    assert found.score == pytest.approx(1)
    assert found.n_test == int(test.right.any(2).sum())
