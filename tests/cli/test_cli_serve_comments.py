"""``--sse-comments``: from the command line to what the gateway is told."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from headrace.cli import serve
from headrace.cli.main import main
from headrace.config import ServerConfig
from headrace.gateway.config import GatewayConfig
from headrace.paths import DataDir


@pytest.mark.parametrize(("flags", "expected"), [([], None), (["--sse-comments", "15"], 15.0)])
def test_the_gateway_is_told_when_streams_get_comments(
    flags: list[str], expected: float | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[GatewayConfig] = []

    def run(settings: ServerConfig, as_json: bool) -> None:
        text = serve._gateway_config(settings, DataDir(tmp_path), "token", 3)
        told.append(msgspec.json.decode(text, type=GatewayConfig))

    monkeypatch.setattr(serve, "_run", run)
    with pytest.raises(SystemExit) as ended:
        main(["serve", *flags])
    assert ended.value.code == 0
    assert [config.sse_comment_s for config in told] == [expected]


@pytest.mark.parametrize("seconds", ["0", "-1", "inf"])
def test_a_silence_that_is_none_is_refused(seconds: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["serve", "--sse-comments", seconds])
    assert ended.value.code
    assert "sse_comment_s" in capsys.readouterr().err
