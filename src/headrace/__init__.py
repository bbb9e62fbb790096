"""Headrace: large language models served with provisioned throughput."""

__version__ = "0.1.0"
