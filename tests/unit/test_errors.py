"""Errors: what the command line relies on, and suggestions that help."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unplateau import errors
from unplateau.errors import UnplateauError, suggest


def family(root: type[UnplateauError]) -> list[type[UnplateauError]]:
    return [root, *(below for child in root.__subclasses__() for below in family(child))]


USERS_DOING = {"SpecError", "DataError", "RunDirectoryError", "RunLockedError", "OutputError", "MissingExtraError"}


@pytest.mark.parametrize("error", family(UnplateauError), ids=lambda error: error.__name__)
def test_exit_code_says_whose_doing_it_is(error):
    assert error.exit_code == (2 if error.__name__ in USERS_DOING else 1)


@pytest.mark.parametrize("error", family(UnplateauError), ids=lambda error: error.__name__)
def test_message_is_what_was_said(error):
    assert str(error("tasks.yaml: n_pairs: 0 is too few")) == "tasks.yaml: n_pairs: 0 is too few"


def test_every_error_has_a_page_of_its_own():
    pages = [error.page for error in family(UnplateauError)]
    assert len(set(pages)) == len(pages)


def test_all_are_caught_as_one():
    defined = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)]
    assert set(defined) == set(family(UnplateauError))


names = st.lists(st.from_regex(r"[a-zA-Z][a-zA-Z_]{2,11}", fullmatch=True), min_size=1, max_size=6, unique_by=str.lower)


@given(names, st.data())
def test_a_known_name_in_any_case_is_suggested_as_written(options, data):
    option = data.draw(st.sampled_from(options))
    assert suggest(option.upper(), options) == f"; did you mean '{option}'?"


@given(names, st.data())
def test_a_slip_of_one_letter_is_recognised(options, data):
    option = data.draw(st.sampled_from(options))
    assert "did you mean" in suggest(option[:-1], options)


@given(st.text(max_size=12), names)
def test_a_suggestion_names_only_what_exists(name, options):
    said = suggest(name, options)
    if "did you mean" in said:
        assert said.removeprefix("; did you mean '").removesuffix("'?") in options
    else:
        assert said == f"; known: {', '.join(sorted(options))}"


@given(names, st.randoms())
def test_order_of_options_does_not_matter(options, random):
    shuffled = random.sample(options, len(options))
    assert suggest("fraction", options) == suggest("fraction", shuffled)


def test_nothing_known_says_nothing():
    assert suggest("anything", []) == ""
