"""Where a setting comes from, and what is said when it cannot be used."""

from pathlib import Path

import pytest

from headrace.config import ConfigError, load


def test_flags_win_over_environment_and_environment_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "headrace.toml"
    file.write_text('port = 1001\nhost = "127.0.0.2"\nprice_per_chunk_hour = "2.50"\n')
    config = load({"port": 1003, "host": None}, file=file, environment={"HEADRACE_PORT": "1002"})
    assert (config.port, config.host, config.price_micro) == (1003, "127.0.0.2", 2_500_000)
    assert load({}, file=file, environment={"HEADRACE_PORT": "1002"}).port == 1002


def test_tables_of_the_file_are_read(tmp_path: Path) -> None:
    file = tmp_path / "headrace.toml"
    file.write_text('[scaling]\ndown_window_s = 20\n[first_endpoint]\nname = "a"\nmodel = "m"\n')
    config = load({}, file=file, environment={})
    assert config.scaling.down_window_s == 20
    assert config.first_endpoint is not None and config.first_endpoint.model == "m"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("port = 70000", "expected 1 to 65535"),
        ("ports = 1", "ports"),
        ("port = ", "not valid TOML"),
        ('price_per_chunk_hour = "cheap"', "expected a decimal number"),
        ('price_per_chunk_hour = "-1"', "zero or more"),
        ('price_per_chunk_hour = "0.0000001"', "six decimal places"),
        ("[scaling]\nheadrom = 0.2", "headrom"),
        ('on_journal_failure = "drop"', "expected refuse or serve"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "headrace.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=said):
        load({}, file=file, environment={})


def test_a_file_that_was_named_must_exist(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        load({}, file=tmp_path / "none.toml", environment={})
