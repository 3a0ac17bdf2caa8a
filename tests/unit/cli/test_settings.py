"""The config file that is installed, and the command that prints what is in force."""

import tomllib
from dataclasses import fields
from pathlib import Path

import pytest
from click.testing import CliRunner

from orchestrator.base.errors import StartupError
from orchestrator.cli.settings import command, toml_value
from orchestrator.config import Config, load

DEFAULTS = Path(__file__).parents[3] / "config/config.toml"


def uncommented() -> str:
    """The file with every setting in force."""
    lines = DEFAULTS.read_text().splitlines()
    return "\n".join(line.removeprefix("# ") for line in lines if " = " in line and line.startswith("# "))


def test_the_installed_file_names_every_setting_with_its_default(tmp_path):
    file = tmp_path / "config.toml"
    file.write_text(uncommented())
    assert load(file, {}) == Config()
    assert sorted(tomllib.loads(file.read_text())) == sorted(field.name for field in fields(Config))


def test_the_installed_file_sets_nothing():
    assert tomllib.loads(DEFAULTS.read_text()) == {}


def test_what_is_printed_can_be_read_back(tmp_path):
    file = tmp_path / "config.toml"
    file.write_text('port = 7443\ntls_names = ["a", "b"]\nno_agent = true\n')
    printed = CliRunner().invoke(command, ["--config", str(file)])
    assert printed.exit_code == 0
    again = tmp_path / "again.toml"
    again.write_text(printed.output)
    assert load(again, {}) == load(file, {})


def test_single_values_come_one_per_line(tmp_path):
    file = tmp_path / "config.toml"
    file.write_text('run_dir = "/run/x"\nport = 7443\n')
    printed = CliRunner().invoke(command, ["--config", str(file), "port", "run_dir", "node_name"])
    assert printed.output == "7443\n/run/x\n\n"


def test_an_unknown_key_is_named(tmp_path):
    with pytest.raises(StartupError, match="colour"):
        CliRunner().invoke(command, ["colour"], catch_exceptions=False)


def test_text_is_quoted():
    assert toml_value(("a", "b")) == '["a", "b"]'
    assert toml_value(False) == "false"


@pytest.mark.parametrize(
    ("text", "flags", "word"),
    [
        ("colour = 1", {}, "colour"),
        ("port = 'x'", {}, "a whole number"),
        ("port = 'x'", {"port": 1}, "a whole number"),
        ("data_dir = 1", {}, "a path"),
        ("no_agent = 'yes'", {}, "true or false"),
        ("tls_names = 'a'", {}, "a list of strings"),
        ("port = ", {}, "TOML"),
    ],
)
def test_a_fault_in_the_file_is_named(tmp_path, text, flags, word):
    file = tmp_path / "config.toml"
    file.write_text(text)
    with pytest.raises(StartupError, match=word):
        load(file, flags)


def test_the_logs_settings_are_handed_on_within_their_bounds(tmp_path):
    file = tmp_path / "config.toml"
    file.write_text("store_segment_bytes = 65536\nstore_history_s = 60\n")
    settings = load(file, {}).log_settings()
    assert (settings.segment_bytes, settings.history_s) == (65536, 60.0)
    file.write_text("store_segment_bytes = 1\n")
    with pytest.raises(StartupError, match="store_segment_bytes is 1"):
        load(file, {}).check()
