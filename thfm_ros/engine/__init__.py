"""Bundles: export, compile, check, run and measure one model on one kind of machine."""
