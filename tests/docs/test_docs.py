"""The documentation builds, says something about every error, and shows only code and commands that work."""

import html
import inspect
import os
import re
import runpy
import subprocess
import sys
import tomllib
from functools import cache, partial
from importlib import import_module
from pathlib import Path

import pytest

import unplateau as up
from unplateau.cli.main import COMMANDS
from unplateau.errors import UnplateauError

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(page for page in DOCS.rglob("*.md") if "_build" not in page.parts)]
SCRIPTS = Path(sys.executable).parent
FENCE = re.compile(r"^```(?P<tag>[^\n]*)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)


def family(root: type[UnplateauError]) -> list[type[UnplateauError]]:
    return [root, *(below for child in root.__subclasses__() for below in family(child))]


def blocks(page: Path, language: str) -> list[str]:
    """The text of each fenced block in this language."""
    return [match["body"] for match in FENCE.finditer(page.read_text()) if match["tag"].split()[:1] == [language]]


def commands(page: Path) -> list[str]:
    """What stands after ``$ unplateau`` in the console blocks of a page, continued lines joined."""
    shown = "\n".join(body.replace("\\\n", " ") for body in blocks(page, "console"))
    return re.findall(r"^\$ unplateau +(.*)$", shown, re.MULTILINE)


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@cache
def help_of(subcommand: str) -> str:
    """The help text of a subcommand; of the program itself for the empty name."""
    wide = {**os.environ, "COLUMNS": "300", "NO_COLOR": "1"}
    command = [SCRIPTS / "unplateau", *subcommand.split(), "--help"]
    run = subprocess.run(command, capture_output=True, text=True, check=False, env=wide)
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The documentation as HTML, built without a warning."""
    pytest.importorskip("sphinx", reason="needs sphinx (extra docs)")
    folder = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", "-d", folder / "trees"]
    run = subprocess.run([*build, DOCS, folder / "html"], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return folder / "html"


def test_the_site_has_every_page(site):
    built = {str(page.relative_to(site).with_suffix("")) for page in site.rglob("*.html")}
    assert {str(page.relative_to(DOCS).with_suffix("")) for page in PAGES[1:]} <= built


def test_every_public_name_is_in_the_reference_with_its_types(site):
    text = "".join(page.read_text("utf-8") for page in (site / "reference").glob("*.html"))
    places = re.findall(r'<dt class="[^"]*" id="unplateau\.(\w+)">', text) + re.findall(
        r'id="module-unplateau\.(\w+)"', text
    )
    assert {name for name in up.__all__ if not name.startswith("_")} <= set(places)
    assert len(places) == len(set(places))
    assert "_NestedSequence" not in text
    plain = re.sub(r"<[^>]+>", "", text)
    settings = [one for one in map(partial(getattr, up), up.__all__) if hasattr(one, "model_fields")]
    assert len(settings) > 20
    for field in {field.description for one in settings for field in one.model_fields.values() if field.description}:
        assert typographic(field) in typographic(html.unescape(plain)), field


def typographic(text):
    """Without what Sphinx makes of quotes, dashes and dots."""
    return re.sub(r"[^\w]+", " ", text)


def test_every_example_is_listed():
    page = (DOCS / "examples.md").read_text("utf-8")
    linked = re.findall(r"\[([\w.]+)\]\(\.\./examples/([\w.]+)\)", page)
    assert [one for one, _ in linked] == [other for _, other in linked]
    assert {one for one, _ in linked} == {path.name for path in (ROOT / "examples").glob("*.py")}


def test_every_extra_is_on_the_page_about_installing():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    assert {*re.findall(r"^\| `(\w+)` \|", (DOCS / "install.md").read_text("utf-8"), re.MULTILINE)} == {*extras}


def test_pictures_are_what_the_script_draws():
    pictures = runpy.run_path(str(DOCS / "figures.py"))["PICTURES"]
    stale = [name for name, draw in pictures.items() if (DOCS / "concepts" / name).read_text("utf-8") != draw()]
    assert not stale, "run `make figures` and commit what it writes"


def test_pages_of_commands_are_what_the_commands_say():
    made = runpy.run_path(str(DOCS / "commands.py"))["pages"]()
    assert {path.name: path.read_text("utf-8") for path in (DOCS / "commands").glob("*.md")} == made, (
        "run `make figures` and commit what it writes"
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_the_page_of_a_command_has_every_argument(command):
    page = (DOCS / "commands" / f"{command}.md").read_text("utf-8").replace("\\", "")
    function = getattr(import_module(f"unplateau.cli.{COMMANDS[command][0]}"), command)
    options = re.findall(r"^\W*(--[a-z][\w-]*)", help_of(command), re.MULTILINE)
    assert len(options) >= sum(one.kind is one.KEYWORD_ONLY for one in inspect.signature(function).parameters.values())
    assert not [option for option in options if f"`{option}" not in page]
    assert inspect.getdoc(function).splitlines()[0] in page
    assert f"$ unplateau {command}" in page


@pytest.mark.parametrize("error", family(UnplateauError), ids=lambda error: error.__name__)
def test_every_error_has_its_page(error):
    page = (DOCS / "errors" / f"{error.page}.md").read_text()
    assert error.__name__ in page
    if error is not UnplateauError:
        assert f"exit code {error.exit_code}" in page.lower()
        assert all(heading in page for heading in ("## Example", "## Why", "## What to do"))


def test_every_error_page_belongs_to_an_error():
    assert {page.stem for page in (DOCS / "errors").glob("*.md")} == {error.page for error in family(UnplateauError)}


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "extending.md" and commands(page)], ids=name)
def test_commands_and_their_options_exist(page):
    """Those of extending.md, where one is added, are run in test_extending.py."""
    for command in commands(page):
        words = command.split("#")[0].split()
        text = help_of("" if words[0].startswith("-") else words[0])
        missing = [word for word in words if word.startswith("--") and word.partition("=")[0] not in text]
        assert not missing, f"{name(page)}: unplateau {command}: {missing} not in its --help"


@pytest.mark.parametrize("page", [page for page in PAGES if page.exists()], ids=name)
def test_links_to_files_lead_somewhere(page):
    prose = FENCE.sub("", page.read_text())
    targets = re.findall(r"\]\((?!https?:|mailto:|#)([^)#\s]+)[^)]*\)", prose)
    missing = [target for target in targets if not (page.parent / target).exists()]
    assert not missing, f"{name(page)}: {missing}"
