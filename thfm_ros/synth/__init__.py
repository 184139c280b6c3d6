"""Synthetic people with exact ground truth, from freely licensed parts: body, motion, outfit, scene, rasteriser."""
