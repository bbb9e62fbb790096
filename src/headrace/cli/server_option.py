"""Which server a command speaks to, as options."""

from __future__ import annotations

from dataclasses import dataclass, field

from headrace.cli.connection import Connection, connect
from headrace.cli.options import DataDirOption, KeyOption, UrlOption


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """Nothing is needed where the server of the local data directory is meant."""

    url: UrlOption = None
    api_key: KeyOption = field(default=None, repr=False)
    data_dir: DataDirOption = None

    def connect(self) -> Connection:
        """Raises CommandError where no server is named and none runs here."""
        return connect(self.url, self.api_key, self.data_dir)
