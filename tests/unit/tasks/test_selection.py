"""Word selection: every list has one word of the hidden topic, and the exact predictors are those of enumeration."""

import itertools

import pytest
import torch

from unplateau.items.words import Words
from unplateau.tasks.mixture import Mixture
from unplateau.tasks.selection import WordSelection
from unplateau.tensors import Prompts

TOPICS = ("animal", "food", "artifact", "person")
SMALL = WordSelection(words=Words(topics=TOPICS, per_topic=40, attributes=("topic",)), n_pairs=4)


def test_the_answer_is_the_word_of_the_hidden_topic() -> None:
    task = WordSelection()
    batch = task.sample(3, batch_size=50)
    topics = torch.tensor(task.words.entries().attribute("topic").of)
    lists = batch.item_index.view(50, 6, 3)
    assert torch.equal(topics[batch.targets], batch.hidden_factor[:, None].expand(-1, 6))
    assert bool((lists == batch.targets[..., None]).any(2).all())
    assert all(len(set(one)) == 3 for prompt in topics[lists].tolist() for one in prompt)
    assert torch.equal(batch.factors[..., 0], topics[batch.item_index])
    places = (lists == batch.targets[..., None]).int().argmax(2)
    assert places.unique().tolist() == [0, 1, 2]  # the place of a word says nothing


def test_the_cue_names_the_topic_in_d_fix_and_nothing_in_d_rnd() -> None:
    batches = [task.sample(0, batch_size=64) for task in (SMALL.fixed(), SMALL)]
    cues = [batch.inputs.cues for batch in batches if isinstance(batch.inputs, Prompts)]
    assert cues[1] is not None
    assert cues[1].unique().tolist() == [4]
    named = set(zip(batches[0].hidden_factor.tolist(), cues[0].tolist(), strict=True))  # type: ignore[union-attr]
    assert len(named) == 4


@pytest.mark.parametrize("n_mappings", [None, 1, 2, 5])
def test_the_bayes_predictor_equals_enumeration(n_mappings: int | None) -> None:
    """Over all hidden topics and mappings, weighed by whether they could have given the cue and the answers so far."""
    task = SMALL.model_copy(update={"n_mappings": n_mappings})
    batch = task.sample(0, batch_size=12)
    predictions = task.bayes_predictions(batch)
    topics = torch.tensor(task.words.entries().attribute("topic").of)
    tables = [None] if n_mappings is None else task._table().tolist()
    assert isinstance(batch.inputs, Prompts)
    assert batch.inputs.cues is not None
    for row, cue in enumerate(batch.inputs.cues.tolist()):
        lists = batch.item_index[row].view(4, 3)
        for k in range(4):
            weight: dict[int, float] = {}
            for hidden, table in itertools.product(range(4), tables):
                possible = table is None or table[hidden] == cue
                agrees = all(topics[answer] == hidden for answer in batch.targets[row, :k])
                given = [word for word in lists[k].tolist() if topics[word] == hidden]
                if possible and agrees and given:
                    weight[given[0]] = weight.get(given[0], 0) + 1
            total = sum(weight.values())
            wanted = torch.zeros(task.words.form.vocabulary, dtype=torch.float64)
            for word, value in weight.items():
                wanted[word] = value / total
            torch.testing.assert_close(predictions[row, k], wanted)


def test_without_context_each_word_of_the_list_is_as_likely() -> None:
    batch = SMALL.sample(0, batch_size=5)
    predictions = SMALL.no_context_predictions(batch)
    assert predictions.gather(2, batch.targets[..., None]).unique().tolist() == [pytest.approx(1 / 3)]
    torch.testing.assert_close(predictions.sum(2), torch.ones(5, 4, dtype=torch.float64))


def test_texts_are_the_lists_and_labels_the_words() -> None:
    batch = SMALL.sample(0, batch_size=2)
    names = SMALL.shown(batch).labels
    for texts, answers in zip(SMALL.shown(batch).texts, batch.targets.tolist(), strict=True):
        assert all(names[answer] in text.split(", ") for text, answer in zip(texts, answers, strict=True))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"n_pairs": 30}, "more than the .* test words of a topic"),
        ({"n_words": 5, "words": Words(topics=TOPICS, attributes=("topic",))}, "more than the 4 topics"),
        ({"words": Words(written="characters")}, "written must be 'words'"),
    ],
)
def test_what_cannot_work_is_refused(data: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        WordSelection.model_validate(data).check()


def test_the_shuffled_control_keeps_as_many_words_of_each_topic_in_each_half() -> None:
    for split in ("train", "test"):
        kept, moved = ([len(pool) for pool in task._pools(split)] for task in (SMALL, SMALL.shuffled()))
        assert kept == moved
    topics = SMALL.words.factors()[:, 0]
    assert (SMALL.shuffled()._topics() == topics).float().mean() < 0.5


def test_all_cues_and_mappings_of_a_mixture_are_told_apart() -> None:
    """A neutral cue comes from D_rnd only, so the first prediction of a mixture already knows its task."""
    mixture = Mixture(tasks=(SMALL.fixed(), SMALL), shares=(0.5, 0.5))
    for task in mixture.tasks:
        batch = task.sample(0, batch_size=20)
        torch.testing.assert_close(mixture.bayes_predictions(batch), task.bayes_predictions(batch))
