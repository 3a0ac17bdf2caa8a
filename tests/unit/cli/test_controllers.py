"""The README's graph of controllers is that of the program."""

from pathlib import Path

from orchestrator.cli.controllers import page

README = Path(__file__).parents[3] / "README.md"
START = "<!-- orchestrator controllers -->\n```\n"
END = "\n```\n"


def test_the_graph_in_the_readme_is_what_the_command_prints() -> None:
    assert f"{START}{page()}{END}" in README.read_text(), "run: python -m tests.unit.cli.test_controllers"


def write() -> None:
    """Put the present graph into the README."""
    before, _, rest = README.read_text().partition(START)
    after = rest.partition(END)[2]
    README.write_text(f"{before}{START}{page()}{END}{after}")


if __name__ == "__main__":
    write()
