"""The decision log: all that the scaling law was told and what it decided, so that it can be decided again."""
