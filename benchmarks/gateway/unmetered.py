"""The gateway's process without its journal: what is left of ``headrace.gateway.main`` tells what metering costs.

Records are made and dropped instead of written; everything else is as it is. For this benchmark only: the product has
no such option.
"""

from __future__ import annotations

import sys

from headrace.gateway import main
from headrace.gateway.outbox import Outbox
from headrace.journal.records import Progress, Rejected, Reserved, Settled


class Dropped(Outbox):
    """Takes records as the outbox does."""

    def reserve(self, record: Reserved) -> None:
        pass

    def note(self, record: Progress) -> None:
        pass

    def end(self, record: Settled | Rejected) -> None:
        pass


if __name__ == "__main__":
    main.Outbox = Dropped  # type: ignore[attr-defined]
    sys.exit(main.main())
