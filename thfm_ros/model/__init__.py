"""THFM on diffusers' Wan classes."""
