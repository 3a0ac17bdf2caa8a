"""The page of resources and verbs says what is served."""

from pathlib import Path

from orchestrator.cli.resources import page

PAGE = Path(__file__).parents[3] / "docs" / "resources.md"


def test_the_page_in_docs_is_what_the_command_prints() -> None:
    assert page() in PAGE.read_text(), "run: python -m tests.unit.cli.test_resources"


def write() -> None:
    """Put the present table into the page."""
    head = PAGE.read_text().partition("\n|")[0]
    PAGE.write_text(f"{head}\n{page()}\n")


if __name__ == "__main__":
    write()
