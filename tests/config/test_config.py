"""Where a setting comes from, and what is said when it cannot be used."""

import re
from pathlib import Path

import msgspec
import pytest

from headrace.config import ConfigError, load
from headrace.gateway.config import LimitsConfig


def test_flags_win_over_environment_and_environment_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "headrace.toml"
    file.write_text('port = 1001\nhost = "127.0.0.2"\nprice_per_chunk_hour = "2.50"\n')
    config = load({"port": 1003, "host": None}, file=file, environment={"HEADRACE_PORT": "1002"})
    assert (config.port, config.host, config.price_micro) == (1003, "127.0.0.2", 2_500_000)
    assert load({}, file=file, environment={"HEADRACE_PORT": "1002"}).port == 1002


@pytest.mark.parametrize(
    ("flag", "environment", "measured"),
    [(None, {}, True), (False, {}, False), (None, {"HEADRACE_MEASURE_AT_START": "false"}, False)],
)
def test_a_server_can_be_told_not_to_measure_at_its_start(
    flag: bool | None, environment: dict[str, str], measured: bool, tmp_path: Path
) -> None:
    assert load({"measure_at_start": flag}, environment=environment).measure_at_start is measured
    file = tmp_path / "headrace.toml"
    file.write_text("measure_at_start = false\n")
    assert load({}, file=file, environment={}).measure_at_start is False


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
        ('tls_cert = "cert.pem"', "tls_cert is set and tls_key is not"),
        ('tls_key = "key.pem"', "tls_key is set and tls_cert is not"),
        ('cors_origins = ["https://a/"]', "is not an origin"),
        ("drain_s = 0", r"\$\.drain_s"),
        ("[limits]\nbody_byte = 1", "body_byte"),
        ("[limits]\nbody_bytes = 10", r">= 1024.*limits\.body_bytes"),
        ("[limits]\nidle_timeout_s = 0", r"> 0.*limits\.idle_timeout_s"),
        ("[limits]\nidle_timeout_s = inf", r"<= 86400.*limits\.idle_timeout_s"),
        ("[limits]\nconnections = 0", r">= 1.*limits\.connections"),
        ("limits = 1", r"\$\.limits"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "headrace.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=said):
        load({}, file=file, environment={})


def test_each_limit_may_come_from_the_file_or_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "headrace.toml"
    file.write_text("[limits]\nhead_bytes = 2048\nbody_bytes = 4096\n")
    config = load({}, file=file, environment={"HEADRACE_LIMITS_BODY_BYTES": "8192"})
    assert (config.limits.head_bytes, config.limits.body_bytes) == (2048, 8192)
    for name in LimitsConfig.__struct_fields__:
        config = load({}, file=file, environment={f"HEADRACE_LIMITS_{name.upper()}": "5000"})
        assert getattr(config.limits, name) == 5000


def test_every_limit_reaches_the_server_of_the_gateway() -> None:
    chosen = LimitsConfig(**{name: 5000 + n for n, name in enumerate(LimitsConfig.__struct_fields__)})
    for name in set(LimitsConfig.__struct_fields__) - {"total_timeout_s"}:
        assert getattr(chosen.wire, name) == getattr(chosen, name)


def test_origins_come_as_a_list_with_commas_between_or_as_flags(tmp_path: Path) -> None:
    file = tmp_path / "headrace.toml"
    file.write_text('cors_origins = ["https://a"]\n')
    assert load({}, file=file, environment={}).cors_origins == ("https://a",)
    environment = {"HEADRACE_CORS_ORIGINS": "https://b, https://c"}
    assert load({}, file=file, environment=environment).cors_origins == ("https://b", "https://c")
    assert load({"cors_origins": ["*"]}, file=file, environment=environment).cors_origins == ("*",)


def test_a_file_that_was_named_must_exist(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        load({}, file=tmp_path / "none.toml", environment={})


def test_the_documentation_tells_each_limit_and_its_default() -> None:
    text = (Path(__file__).parents[2] / "docs" / "reference" / "configuration.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| ([\d.]+) \|", text.split("## Limits")[1].split("\n## ")[0], re.MULTILINE)
    assert {name: float(value) for name, value in rows} == msgspec.structs.asdict(LimitsConfig())
