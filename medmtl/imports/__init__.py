"""Somebody else's trained networks as medmtl bundles; nothing in them is executed."""
