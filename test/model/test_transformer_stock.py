"""Against the stock WanTransformer3DModel: bit-identical outputs, loading its weights, the single step."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import WanTransformer3DModel

from thfm_ros.errors import UserError
from thfm_ros.model.presets import PRESETS, build
from thfm_ros.model.stages import TransformStage
from thfm_ros.model.transformer import THFMTransformer3DModel

OWN = ("num_joints", "tokens_per_frame", "token_frames", "readout", "attention", "window", "end_timestep")
WAN21 = {
    "patch_size": (1, 2, 2),
    "num_attention_heads": 2,
    "attention_head_dim": 28,
    "in_channels": 3,
    "out_channels": 3,
    "text_dim": 8,
    "freq_dim": 16,
    "ffn_dim": 40,
    "num_layers": 3,
}
TINY = {key: value for key, value in PRESETS["tiny"].transformer.items() if key not in OWN}


def stock_of(config: dict) -> WanTransformer3DModel:
    torch.manual_seed(0)
    return WanTransformer3DModel(**config).eval()


@pytest.fixture(params=["2.1", "2.2"])
def config(request: pytest.FixtureRequest) -> dict:
    return WAN21 if request.param == "2.1" else TINY


def inputs(config: dict, batch: int = 2, latents: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(batch, config["in_channels"], latents, 4, 6, generator=generator)
    return x, torch.randn(batch, 5, config["text_dim"], generator=generator)


@torch.no_grad()
def test_without_tokens_output_is_bit_identical_to_stock(config: dict) -> None:
    stock = stock_of(config)
    model = THFMTransformer3DModel(**config).eval()
    missing, unexpected = model.load_state_dict(stock.state_dict(), strict=False)
    assert unexpected == []
    assert all(key.startswith("keypoint_tokens.") for key in missing)
    x, prompt = inputs(config)
    for value in (0.0, 437.0, 999.0):
        timestep = torch.full((2,), value)
        expected = stock(x, timestep, prompt).sample
        assert torch.equal(model(x, prompt, timestep).sample, expected)
        assert torch.equal(model(hidden_states=x, timestep=timestep, encoder_hidden_states=prompt).sample, expected)
        assert torch.equal(model(x, prompt, timestep, return_dict=False)[0], expected)


@torch.no_grad()
def test_bfloat16_is_bit_identical_too(config: dict) -> None:
    stock = stock_of(config).to(torch.bfloat16)
    model = THFMTransformer3DModel(**config).eval().to(torch.bfloat16)
    model.load_state_dict(stock.state_dict(), strict=False)
    x, prompt = (t.bfloat16() for t in inputs(config))
    assert torch.equal(model(x, prompt).sample, stock(x, torch.zeros(2), prompt).sample)


@torch.no_grad()
def test_from_wan_keeps_every_weight(config: dict, tmp_path: Path) -> None:
    stock = stock_of(config)
    stock.save_pretrained(tmp_path / "wan" / "transformer")
    x, prompt = inputs(config)
    expected = stock(x, torch.zeros(2), prompt).sample
    for source in (tmp_path / "wan", str(tmp_path / "wan" / "transformer")):
        model = THFMTransformer3DModel.from_wan(source, token_frames=9, tokens_per_frame=2)
        assert torch.equal(model(x, prompt).sample, expected)
        state = model.state_dict()
        assert all(torch.equal(state[key], value) for key, value in stock.state_dict().items())
        assert model.config.token_frames == 9
        assert model(x, prompt, keypoints=True).keypoints.xy.shape == (2, 9, 32, 2)
    assert not any(tensor.is_meta for tensor in (*model.parameters(), *model.buffers()))


@torch.no_grad()
def test_from_wan_reads_the_hub_cache_and_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    stock = stock_of(TINY)
    repository = tmp_path / "models--Somebody--Small-Wan"
    snapshot = repository / "snapshots" / ("0" * 40)
    stock.save_pretrained(snapshot / "transformer", max_shard_size="100KB")
    assert len(list((snapshot / "transformer").glob("*.safetensors"))) > 1
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    model = THFMTransformer3DModel.from_wan("Somebody/Small-Wan")
    x, prompt = inputs(TINY)
    assert torch.equal(model(x, prompt).sample, stock(x, torch.zeros(2), prompt).sample)


def test_from_wan_refuses_what_is_not_a_text_to_video_wan(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="folder or a hub id in the local cache"):
        THFMTransformer3DModel.from_wan("nobody/nothing-of-this-name")
    image = WanTransformer3DModel(**{**WAN21, "in_channels": 6})  # image-to-video: latents of the image as input
    image.save_pretrained(tmp_path / "i2v")
    with pytest.raises(UserError, match="text-to-video"):
        THFMTransformer3DModel.from_wan(tmp_path / "i2v")
    vae, _ = build("tiny")
    vae.save_pretrained(tmp_path / "vae")
    with pytest.raises(UserError, match="expected a checkpoint of WanTransformer3DModel, found AutoencoderKLWan"):
        THFMTransformer3DModel.from_wan(tmp_path / "vae")
    pickled = tmp_path / "pickled"
    stock_of(WAN21).save_pretrained(pickled, safe_serialization=False)
    with pytest.raises(UserError, match="found a pickle"):
        THFMTransformer3DModel.from_wan(pickled)


@torch.no_grad()
def test_single_step_is_the_negated_output_at_the_end_timestep(config: dict) -> None:
    torch.manual_seed(0)
    model = THFMTransformer3DModel(**config, token_frames=5).eval()
    x, prompt = inputs(config)
    (latents,) = TransformStage(model)(x, prompt)
    torch.testing.assert_close(latents, -model(x, prompt, torch.zeros(2)).sample, atol=1e-5, rtol=0)
    assert (latents + model(x, prompt, torch.full((2,), 999.0)).sample).abs().max() > 1e-2
    sample, *points = TransformStage(model, prompt[:1], keypoints=True)(x)
    expected = model(x, prompt[:1].expand(2, -1, -1), keypoints=True)
    torch.testing.assert_close(sample, -expected.sample, atol=1e-5, rtol=0)
    torch.testing.assert_close(tuple(points), tuple(expected.keypoints), atol=1e-5, rtol=0)


@torch.no_grad()
def test_checkpoint_of_a_rectified_flow_that_knows_x0_gives_back_the_video() -> None:
    """The paper: near the start of training the negated output is close to the latent of the RGB video.

    A model whose velocity at the end of the process is -x0 (the best guess of eps - x0 with eps unknown) must give x0.
    """
    _, model = build("tiny")
    width = model.config.num_attention_heads * model.config.attention_head_dim
    for parameter in model.parameters():
        parameter.zero_()
    identity = torch.eye(4)
    model.patch_embedding.weight[:4] = identity.view(4, 4, 1, 1, 1)
    model.patch_embedding.weight[4:8] = -identity.view(4, 4, 1, 1, 1)  # zero mean, so that the norm only scales
    model.proj_out.weight[:, :4] = -identity
    x = torch.randn(1, 4, 2, 2, 3)
    (latents,) = TransformStage(model)(x, torch.zeros(1, 4, 16))
    scale = torch.rsqrt((2 * x.square().sum(1, keepdim=True)) / width + 1e-6)
    torch.testing.assert_close(latents, x * scale)


def test_bad_latents_and_options_are_refused() -> None:
    _, model = build("tiny")
    prompt = torch.zeros(1, 4, 16)
    with pytest.raises(UserError, match=r"expected latents \(B, 4, T', h, w\), found \(1, 5, 2, 2, 3\)"):
        model(torch.zeros(1, 5, 2, 2, 3), prompt)
    with pytest.raises(UserError, match="found frames=6"):
        model(torch.zeros(1, 4, 2, 2, 3), prompt, keypoints=True, frames=6)
    with pytest.raises(UserError, match="one of full, causal, found 'windowed'"):
        model(torch.zeros(1, 4, 2, 2, 3), prompt, attention="windowed")
    with pytest.raises(UserError, match="one timestep a sample"):
        model(torch.zeros(1, 4, 2, 2, 3), prompt, torch.zeros(1, 12))
    wan = THFMTransformer3DModel(**WAN21)
    with pytest.raises(UserError, match="divisible by 2 and 2, found 3x4"):
        wan(torch.zeros(1, 3, 2, 3, 4), torch.zeros(1, 4, 8))


def test_gradient_checkpointing_gives_the_same_gradients() -> None:
    _, model = build("tiny")
    x, prompt = torch.randn(1, 4, 2, 2, 3), torch.randn(1, 4, 16)

    def gradients(attention: str) -> list[torch.Tensor]:
        model.zero_grad()
        out = model(x, prompt, keypoints=True, attention=attention)
        (out.sample.square().mean() + out.keypoints.xyz.square().mean() + out.keypoints.xy.mean()).backward()
        return [p.grad.clone() for p in model.parameters() if p.grad is not None]

    for attention in ("full", "causal"):
        model.disable_gradient_checkpointing()
        plain = gradients(attention)
        model.enable_gradient_checkpointing()
        torch.testing.assert_close(gradients(attention), plain)


@pytest.mark.parametrize("attention", ["full", "causal"])
def test_trains_under_autocast(attention: str) -> None:
    _, model = build("tiny")
    with torch.autocast("cpu", torch.bfloat16):
        out = model(torch.randn(2, 4, 2, 2, 3), torch.randn(2, 4, 16), keypoints=True, attention=attention)
        (out.sample.float().square().mean() + out.keypoints.xyz.square().mean()).backward()
    assert out.keypoints.xyz.dtype == torch.float32
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize("attention", ["full", "causal"])
def test_compiles_without_graph_breaks(attention: str) -> None:
    _, model = build("tiny")
    x, prompt = torch.randn(2, 4, 2, 2, 3), torch.randn(2, 4, 16)

    def run(x: torch.Tensor, prompt: torch.Tensor) -> tuple:
        return model(x, prompt, keypoints=True, attention=attention, return_dict=False)

    expected, found = run(x, prompt), torch.compile(run, backend="eager", fullgraph=True)(x, prompt)
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1].xy, expected[1].xy)
