"""Nano's image encoder, codec and keypoint head: properties that hold for any weights."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from thfm_ros.errors import UserError
from thfm_ros.model.nano import HeatmapHead, NanoCodec
from thfm_ros.model.nano.efficientnet import EPS, EfficientNetLite, load_imagenet
from thfm_ros.model.nano.layers import StandardConv2d
from thfm_ros.model.nano.soft_argmax import expectation, mode, probabilities

HEIGHT, WIDTH = 48, 80


@pytest.fixture(scope="module")
def codec() -> NanoCodec:
    torch.manual_seed(0)
    return NanoCodec(z_dim=8, widths=[8, 12, 16, 24]).eval()


def video(frames: int, count: int = 1, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 3, frames, HEIGHT, WIDTH, generator=generator) * 2 - 1


@pytest.mark.parametrize(("frames", "latents"), [(1, 1), (5, 2), (9, 3), (4, 1), (8, 2)])
@torch.no_grad()
def test_clips_and_middles_of_streams_have_a_latent_for_four_frames(codec, frames, latents):
    features = codec.features(video(frames, 2))
    sizes = [(HEIGHT // s, WIDTH // s) for s in (2, 4, 8, 16)]
    assert [f.shape for f in features] == [
        (2, width, frames, *size) for width, size in zip((8, 12, 16, 24), sizes, strict=True)
    ]
    z = codec.encode(features)
    assert z.shape == (2, 8, latents, HEIGHT // 16, WIDTH // 16)
    assert codec.decode(z, features).shape == (2, 3, frames, HEIGHT, WIDTH)


@torch.no_grad()
def test_coarse_features_are_the_same_without_the_finest(codec):
    for a, b in zip(codec.features(video(2), finest=False), codec.features(video(2))[1:], strict=True):
        torch.testing.assert_close(a, b)


@torch.no_grad()
def test_a_still_is_a_video_at_rest(codec):
    still = video(1)
    z = codec.encode(codec.features(still.expand(-1, -1, 5, -1, -1)))
    torch.testing.assert_close(z[:, :, 1:], z[:, :, :1])
    torch.testing.assert_close(codec.encode(codec.features(still)), z[:, :, :1])


@torch.no_grad()
def test_a_frame_changes_its_own_latent_and_nothing_else(codec):
    clip = video(9)
    other = clip.clone()
    other[:, :, 6] = -other[:, :, 6]  # the second of latent 2's frames
    one, two = (codec.encode(codec.features(v)) for v in (clip, other))
    torch.testing.assert_close(one[:, :, :2], two[:, :, :2])
    assert not torch.allclose(one[:, :, 2], two[:, :, 2])
    features = codec.features(clip)
    changed = one.clone()
    changed[:, :, 1] += 1
    same = [
        t
        for t in range(9)
        if torch.equal(codec.decode(one, features)[:, :, t], codec.decode(changed, features)[:, :, t])
    ]
    assert same == [0, 5, 6, 7, 8]


@torch.no_grad()
def test_tasks_share_the_features_of_a_clip(codec):
    features = codec.features(video(5))
    latents = torch.randn(3, *codec.encode(features).shape[1:])
    alone = torch.cat([codec.decode(z[None], features) for z in latents])
    torch.testing.assert_close(codec.decode(latents, features), alone)


@torch.no_grad()
def test_sizes_that_are_no_multiple_of_32_fit(codec):
    for height, width in ((144, 112), (144, 240), (16, 16)):
        clip = torch.zeros(1, 3, 1, height, width)
        features = codec.features(clip)
        assert codec.decode(codec.encode(features), features).shape == clip.shape


@torch.no_grad()
def test_folded_norms_equal_convolution_and_batch_norm(tmp_path):
    torch.manual_seed(1)
    encoder = EfficientNetLite().eval()
    state, stock = {}, []

    def norm(name: str, width: int) -> nn.BatchNorm2d:
        layer = nn.BatchNorm2d(width, eps=EPS).eval()
        for tensor in (layer.weight, layer.bias, layer.running_mean, layer.running_var):
            tensor.copy_(torch.rand(width) + 0.1)
        state.update({f"{name}.{k}": v for k, v in layer.state_dict().items()})
        return layer

    def unfolded(layer, conv: str, bn: str) -> None:
        like = layer.conv
        plain = nn.Conv2d(
            like.in_channels,
            like.out_channels,
            like.kernel_size,
            like.stride,
            like.padding,
            groups=like.groups,
            bias=False,
        )
        state[f"{conv}.weight"] = plain.weight
        stock.append((layer, nn.Sequential(plain, norm(bn, like.out_channels))))

    unfolded(encoder.stem, "_conv_stem", "_bn0")
    for index, block in enumerate(encoder.blocks):
        name = f"_blocks.{index}."
        if block.expand is not None:
            unfolded(block.expand, f"{name}_expand_conv", f"{name}_bn0")
        unfolded(block.depthwise, f"{name}_depthwise_conv", f"{name}_bn1")
        unfolded(block.project, f"{name}_project_conv", f"{name}_bn2")
    torch.save(state, tmp_path / "weights.pth")
    load_imagenet(encoder, tmp_path / "weights.pth")
    for layer, reference in stock:
        x = torch.randn(1, layer.conv.in_channels, 8, 8)
        torch.testing.assert_close(layer.conv(x), reference(x), rtol=1e-4, atol=1e-4)


def test_other_weights_are_refused_in_one_line(tmp_path):
    file = tmp_path / "other.pth"
    torch.save({"conv.weight": torch.zeros(1)}, file)
    with pytest.raises(UserError, match="expected the weights of EfficientNet-Lite0"):
        load_imagenet(EfficientNetLite(), file)
    file.write_bytes(b"not an archive")
    with pytest.raises(UserError, match="expected the weights of EfficientNet-Lite0"):
        load_imagenet(EfficientNetLite(), file)


@torch.no_grad()
def test_standardised_weights_know_neither_scale_nor_shift():
    torch.manual_seed(2)
    layer, x = StandardConv2d(6, 4, 3), torch.randn(2, 6, 9, 7)
    before = layer(x)
    layer.weight.mul_(3).add_(0.5)
    torch.testing.assert_close(layer(x), before, rtol=1e-4, atol=1e-5)
    inner = layer(torch.ones(1, 6, 5, 5))[0, :, 2, 2]
    torch.testing.assert_close(inner, layer.bias, rtol=0, atol=1e-5)  # filters of zero mean do not see a constant


@torch.no_grad()
def test_a_filter_of_norm_one_answers_as_before():
    torch.manual_seed(2)
    layer, x = StandardConv2d(6, 4, 3), torch.randn(2, 6, 9, 7)
    layer.weight.mul_(3)
    before = layer(x)
    layer.normalise_()
    torch.testing.assert_close(layer.weight.flatten(1).norm(dim=1), torch.ones(4))
    torch.testing.assert_close(layer(x), before, rtol=1e-4, atol=1e-5)


def peaks(*places: tuple[float, float], size: tuple[int, int] = (36, 28), sigma: float = 1.0) -> torch.Tensor:
    """Logits of equal Gaussian peaks at (x, y), in cells from the left and top edge."""
    y, x = (torch.arange(n) + 0.5 for n in size)
    maps = [-((x[None] - px).square() + (y[:, None] - py).square()) / (2 * sigma**2) for px, py in places]
    return torch.stack(maps).logsumexp(0)


def test_the_mode_lies_on_a_peak_where_the_mean_lies_between_two():
    chance = probabilities(peaks((6.3, 9.7), (20.0, 30.0)))
    chance = chance * torch.linspace(1.2, 1, 36)[:, None]  # the upper one is the likelier
    chance = chance / chance.sum()
    size = torch.tensor([28.0, 36.0])
    assert (mode(chance, 1.5) * size - torch.tensor([6.3, 9.7])).norm() < 0.25
    between = expectation(chance) * size
    assert 10 < between[0] < 16
    assert 15 < between[1] < 25


def test_the_mode_moves_with_its_peak_by_parts_of_a_cell():
    found = [float(mode(probabilities(peaks((10 + d, 12.5))), 1.5)[0]) * 28 for d in (0.0, 0.25, 0.5, 0.75)]
    assert all(0.1 < b - a < 0.4 for a, b in pairwise(found))


def test_the_mode_passes_on_a_gradient():
    logits = peaks((10.2, 12.9)).requires_grad_()
    mode(probabilities(logits), 1.5).sum().backward()
    assert logits.grad is not None
    assert logits.grad.abs().sum() > 0


@pytest.fixture
def head() -> HeatmapHead:
    torch.manual_seed(3)
    return HeatmapHead(24, 5, fine=12, widths=(8, 12, 16), joint_dim=24, layers=1)


def inputs(batch: int = 2, frames: int = 5) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    latents = 1 + (frames - 1) // 4
    return (
        torch.randn(batch, frames, 24),
        torch.randn(batch, latents, 3, 5, 24),
        torch.randn(batch, 12, frames, 12, 20),
    )


def test_the_head_gives_heatmaps_and_joints_of_every_frame(head):
    tokens, video, fine = inputs()
    points = head(tokens, video, [1, 4], fine)
    assert points.xy.shape == (2, 5, 5, 2)
    assert points.xyz.shape == (2, 5, 5, 3)
    assert points.visibility.shape == (2, 5, 5)
    assert points.heatmaps.shape == (2, 5, 5, 12, 20)
    assert ((points.xy >= 0) & (points.xy <= 1)).all()


def test_every_weight_of_the_head_learns(head):
    with torch.no_grad():
        head.out.weight.normal_()
    points = head(*inputs()[:2], [1, 4], inputs()[2])
    sum(p.square().sum() for p in points).backward()
    assert [n for n, p in head.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_joints_in_space_do_not_move_heatmaps(head):
    with torch.no_grad():
        head.out.weight.normal_()
    points = head(*inputs()[:2], [1, 4], inputs()[2])
    (points.xyz.square().sum() + points.visibility.square().sum()).backward()
    assert head.heatmap.weight.grad is None
    assert head.up4.refine.weight.grad.any()


@torch.no_grad()
def test_what_other_joints_say_tells_alike_places_apart(head):
    """A heatmap's prior is a Gaussian relative to the joints' middle, or a slope; joints in space come first."""
    tokens, video, fine = inputs(1, 1)
    plain = head(tokens, video, [1], fine)
    middle = expectation(probabilities(plain.heatmaps)).mean(2, keepdim=True)  # of the prior
    head.prior.bias[-2:] = -50.0  # squares of x and y: narrow, around the middle
    drawn = head(tokens, video, [1], fine)
    off = [(p.xy - middle).norm(dim=-1) for p in (plain, drawn)]
    assert (off[1] < off[0]).all()
    assert (off[1] < 0.06).all(), "a cell is 1/12 of the height"
    torch.testing.assert_close(drawn.xyz, plain.xyz)
    head.prior.bias.zero_()
    head.prior.bias[-4] = 10.0  # to the right
    assert (head(tokens, video, [1], fine).xy[..., 0] > plain.xy[..., 0]).all()


def test_features_of_another_size_are_refused(head):
    tokens, video, fine = inputs()
    with pytest.raises(UserError, match=r"expected features \(2, 12, 5, 12, 20\) at stride 4, found none"):
        head(tokens, video, [1, 4])
    with pytest.raises(UserError, match=r"found \(2, 12, 4, 12, 20\)"):
        head(tokens, video, [1, 4], fine[:, :, 1:])
