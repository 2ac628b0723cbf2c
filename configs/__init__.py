"""Recipes in YAML: each states only what differs from the defaults in `worldjepa.config`."""
