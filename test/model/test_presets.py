"""New networks start where small ones learn."""

from __future__ import annotations

import torch

from thfm_ros.model.presets import build


def test_the_blocks_of_a_new_network_count_fully() -> None:
    """Shift 0, scale 0, gate 1 in every block; and each block changes its input by about as much as it is."""
    _, transformer = build("tiny")
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    for block in transformer.blocks:
        block.register_forward_hook(lambda _, args, out: seen.append((args[0], out)))
    config, generator = transformer.config, torch.Generator().manual_seed(0)
    latents = torch.randn(1, config.in_channels, 2, 4, 6, generator=generator)
    with torch.no_grad():
        transformer(latents, torch.randn(1, 4, config.text_dim, generator=generator))
    assert len(seen) == config.num_layers
    for before, after in seen:
        assert (after - before).norm() > 0.1 * before.norm()
    plain = torch.tensor([0.0, 0, 1, 0, 0, 1]).view(1, 6, 1)
    for block in transformer.blocks:
        assert torch.equal(block.scale_shift_table, plain.expand_as(block.scale_shift_table))


def test_the_modulation_still_trains() -> None:
    _, transformer = build("tiny")
    config = transformer.config
    out = transformer(torch.randn(1, config.in_channels, 1, 4, 6), torch.randn(1, 4, config.text_dim))
    out.sample.square().mean().backward()
    assert transformer.condition_embedder.time_proj.weight.grad.abs().max() > 0
