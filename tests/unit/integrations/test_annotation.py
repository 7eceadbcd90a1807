"""What annotations make of a batch, and what they refuse."""

import pytest
import torch
from torch import Tensor

from unplateau.errors import SpecError
from unplateau.integrations.annotation import IGNORED, Annotations, TokenBatch, TokenClasses, targets_of

TOKENS = torch.tensor([[3, 1, 2, 0], [2, 2, 1, 3]])
MASK = torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1]])
GIVEN = {"input_ids": TOKENS, "attention_mask": MASK, "tags": TOKENS % 2}


def classes(annotation: Annotations, **more: Tensor) -> list[list[int]]:
    (target,) = targets_of(annotation, 4)
    return target.classes(TokenBatch.of({**GIVEN, **more})).tolist()


def test_classes_of_every_kind_with_padding_left_out() -> None:
    assert classes(torch.tensor([0, 1, IGNORED, 2])) == [[2, 1, IGNORED, IGNORED], [IGNORED, IGNORED, 1, 2]]
    assert classes(TokenClasses("tags", 2)) == [[1, 1, 0, IGNORED], [0, 0, 1, 1]]
    assert classes(TokenClasses(lambda batch: batch["input_ids"] // 2, 2)) == [[1, 0, 1, IGNORED], [1, 1, 0, 1]]
    assert classes("identity") == [[3, 1, 2, IGNORED], [2, 2, 1, 3]]
    assert classes("next") == [[1, 2, IGNORED, IGNORED], [2, 1, 3, IGNORED]]


def test_classes_of_any_integer_type_and_junk_at_padding() -> None:
    tags = (TOKENS % 2).int()
    tags[0, 3] = 99  # padding
    (target,) = targets_of(TokenClasses("tags", 2), 4)
    found = target.classes(TokenBatch.of({**GIVEN, "tags": tags}))
    assert found.dtype == torch.int64
    assert found.tolist() == [[1, 1, 0, IGNORED], [0, 0, 1, 1]]


def test_tokens_without_a_label_are_left_out() -> None:
    labels = torch.tensor([[IGNORED, 1, 2, 0], [2, 2, IGNORED, 3]])
    assert classes("identity", labels=labels) == [[IGNORED, 1, 2, IGNORED], [2, 2, IGNORED, 3]]
    assert classes("next", labels=labels)[1] == [2, IGNORED, IGNORED, IGNORED]


def test_a_table_may_be_shorter_than_the_embedding_and_says_how_many_classes_there_are() -> None:
    (target,) = targets_of(torch.tensor([0, 4]), 4)
    assert target.n_classes == 5
    assert target.classes(TokenBatch.of(torch.tensor([[0, 1]]))).tolist() == [[0, 4]]
    padded = {"input_ids": torch.tensor([[1, 3]]), "attention_mask": torch.tensor([[1, 0]])}
    assert target.classes(TokenBatch.of(padded)).tolist() == [[4, IGNORED]]
    with pytest.raises(SpecError, match=r"token 3 in the batch, but the table has classes for tokens 0 \.\. 1"):
        target.classes(TokenBatch.of(torch.tensor([[3, 1]])))


def test_several_annotations_keep_their_names() -> None:
    found = targets_of({"part": torch.tensor([0, 1, 1, 0]), "own": "identity"}, 4)
    assert [(one.name, one.read_out) for one in found] == [("part", "linear"), ("own", "input embedding")]


def test_positions_start_at_the_first_real_token() -> None:
    left = TokenBatch.of({"input_ids": TOKENS, "attention_mask": MASK.flip(1)})
    assert left.prompts.positions().tolist() == [[0, 0, 1, 2], [0, 1, 2, 3]]
    assert TokenBatch.of(TOKENS).prompts.positions().tolist() == [[0, 1, 2, 3]] * 2


def test_first_rows_take_everything_along() -> None:
    first = TokenBatch.of({**GIVEN, "scale": torch.tensor(1.0)}).first(1)
    assert first.prompts.tokens.tolist() == [[3, 1, 2, 0]]
    assert first.given["tags"].shape == (1, 4)
    assert first.counted.tolist() == [[True, True, True, False]]


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (None, "needed by a loss term"),
        ({}, "empty mapping"),
        ("identty", "did you mean 'identity'"),
        (torch.zeros(4), r"must be \(V,\) of integers"),
        (torch.zeros(2, 2, dtype=torch.int64), r"must be \(V,\) of integers"),
        (torch.tensor([0, -1]), "classes must be 0, 1, 2"),
        (torch.tensor([-100, -100]), "at least one is needed"),
        (TokenClasses("tags", 1), "at least 2"),
        (torch.tensor([0, 0, -100, 0]), "all classes of the table are 0; at least 2"),
        (TokenClasses("input_ids", 3), "class 3 in the batch, but n_classes is 3: classes are 0 .. 2"),
        (TokenClasses(lambda batch: batch["input_ids"] + 2, None), "class 5 in the batch, but the vocabulary has 4"),
        (TokenClasses(lambda batch: batch["input_ids"] - 2, 9), "class -1 in the batch"),
        (TokenClasses(lambda batch: batch["input_ids"] / 2, 9), "classes must be integers, got torch.float32"),
        (TokenClasses("missing", 2), "the batch has no 'missing'"),
        (TokenClasses(lambda batch: batch["input_ids"][:, 1:], 4), "one class for each token"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_line(annotation: Annotations, words: str) -> None:
    with pytest.raises(SpecError, match=words) as caught:
        classes(annotation)
    assert "\n" not in str(caught.value)


def test_batches_without_tokens_are_refused() -> None:
    with pytest.raises(SpecError, match="needs 'input_ids'"):
        TokenBatch.of({"tokens": TOKENS})
    with pytest.raises(SpecError, match=r"must be \(B, T\)"):
        TokenBatch.of(TOKENS[0])
