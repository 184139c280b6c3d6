"""Quick measures on held-out clips while training; the full protocols are in `thfm evaluate`."""

from __future__ import annotations

import torch
from torch import Tensor

from thfm_ros.quantities import ALPHA, DENSE_POSE, INSTANCES, NORMALS
from thfm_ros.skeleton import DEFAULT_JOINT_SET, convert
from thfm_ros.tasks import get_task
from thfm_ros.train.config import TrainConfig
from thfm_ros.train.data import HELD_OUT, ClipSource, Draw, task_weights
from thfm_ros.train.losses import masked_mean, procrustes
from thfm_ros.train.samples import ClipBatch, TrainingClip
from thfm_ros.train.stages import Rows, Stage, TaskStage

BATCH = 8
CALIBRATION_CLIPS = 64
Metrics = dict[str, float]


class HeldOut:
    """Clips HELD_OUT, HELD_OUT + 1, ...: `metrics, pictures = heldout(stage)`; `score` is lower for better networks.

    score: for decoders minus the mean PSNR; otherwise the mean of what is measured of 1 - IoU, human normals' mean
    error / 90 degrees, human AbsRel, dense pose error, 1 - PCK@0.05, PA-MPJPE / 300 mm, and the scene's likewise.
    """

    def __init__(self, config: TrainConfig, source: ClipSource, device: torch.device) -> None:
        self.config, self.source, self.device = config, source, device
        self.tasks = list(task_weights(config))
        self.clips: list[TrainingClip] = []

    @torch.no_grad()
    def __call__(self, stage: Stage) -> tuple[Metrics, dict[str, Tensor]]:
        frames = self.config.data.frames
        while len(self.clips) < self.config.evaluate_clips:
            self.clips.append(self.source(HELD_OUT + len(self.clips)).window(0, frames))
        stage.eval()
        total: dict[str, list[Tensor]] = {}
        pictures: dict[str, Tensor] = {}
        for start in range(0, len(self.clips), BATCH):
            batch = ClipBatch.of(self.clips[start : start + BATCH], self.device)
            latents = stage.encode(batch.rgb)
            for task in self.tasks:
                found, picture = self._measure(stage, batch, latents, task)
                for name, values in found.items():
                    total.setdefault(name, []).append(values)
                if start == 0 and picture is not None:
                    pictures[task] = picture
        stage.train()
        metrics = {name: float(torch.cat(values).nanmean()) for name, values in total.items()}
        return {**metrics, "score": score(metrics)}, pictures

    def _measure(
        self, stage: Stage, batch: ClipBatch, latents: Tensor, task: str
    ) -> tuple[dict[str, Tensor], Tensor | None]:
        if not isinstance(stage, TaskStage):
            latents = stage.encode(batch.target(task))
            target, decoded = stage.reference(latents, batch.target(task)), stage.decode(latents)
            error = (decoded - target).square().flatten(1).mean(1)
            return {f"psnr/{task}": 10 * torch.log10(4 / error.clamp_min(1e-10))}, _picture(target, decoded)
        count = len(batch)
        rows = Rows(list(range(count)), [task] * count, [0] * count)
        draw = Draw(0, (), (), (), next(iter(self.config.attention)), False, 0.0)
        predicted, points = stage.transform(latents, rows, draw, batch.rgb)
        if points is not None:
            keypoints = {k: v.float() for k, v in points._asdict().items()}
            return keypoint_metrics(keypoints, batch, task), None
        decoded = stage.pictures(predicted, batch.rgb).float()
        target = batch.target(task)
        return dense_metrics(task, decoded, batch), _picture(batch.rgb, target, decoded)

    @torch.no_grad()
    def calibrate(self, stage: Stage) -> None:
        """Put mean and deviation of the latents of training clips into the VAE's config, for unit latents."""
        vae = stage.vae
        spread, shift = stage.encode.std, stage.encode.mean  # those it was trained with
        total = []
        for index in range(min(CALIBRATION_CLIPS, self.config.data.clips or CALIBRATION_CLIPS)):
            batch = ClipBatch.of([self.source(index).window(0, self.config.data.frames)], self.device)
            for task in self.tasks:
                total.append((stage.encode(batch.target(task)) * spread + shift).transpose(0, 1).flatten(1))
        values = torch.cat(total, 1)
        vae.register_to_config(latents_mean=values.mean(1).tolist(), latents_std=values.std(1).tolist())


def dense_metrics(task: str, rgb: Tensor, batch: ClipBatch) -> dict[str, Tensor]:
    """Measures decoded RGB (B, 3, T, H, W), one value a clip; NaN where a clip shows nobody."""
    quantity, mask = get_task(task).quantity, batch.mask(task)
    empty = ~mask.flatten(1).any(1)

    def mean(x: Tensor) -> Tensor:
        return masked_mean(x, mask).masked_fill(empty, float("nan"))

    if quantity is ALPHA:
        predicted = rgb.mean(1, keepdim=True) > 0
        union = (predicted | mask).flatten(1).sum(1)
        iou = (predicted & mask).flatten(1).sum(1) / union.clamp_min(1)
        return {f"iou/{task}": iou.masked_fill(empty, torch.nan)}
    if quantity is NORMALS:
        cosine = torch.nn.functional.cosine_similarity(rgb, batch.target(task), dim=1)[:, None]
        return {f"mean_deg/{task}": mean(torch.rad2deg(torch.acos(cosine.clamp(-1, 1))))}
    if quantity is INSTANCES:  # in the code's own measure (`thfm_ros.instances`)
        return {f"epe/{task}": mean((rgb - batch.target(task))[:, :2].norm(dim=1, keepdim=True))}
    if quantity is DENSE_POSE:
        error = (rgb / 2 + 0.5 - batch.dense_pose).norm(dim=1, keepdim=True)
        return {f"epe/{task}": mean(error)}
    truth = (batch.human_disparity if get_task(task).human else batch.scene_disparity).clamp(0, 1)
    aligned = align(rgb.mean(1, keepdim=True) / 2 + 0.5, truth, mask)
    # Disparity is known up to the clip's own range; 0.5 .. 1.5 of it stands for the metric one.
    return {f"rel/{task}": mean((aligned - truth).abs() / (truth + 0.5))}


def align(x: Tensor, y: Tensor, mask: Tensor) -> Tensor:
    """Least-squares scale and shift of x to y over each clip's mask."""
    mx, my = (masked_mean(v, mask).view(-1, 1, 1, 1, 1) for v in (x, y))
    covariance = masked_mean((x - mx) * (y - my), mask)
    scale = (covariance / masked_mean((x - mx).square(), mask).clamp_min(1e-8)).view(-1, 1, 1, 1, 1)
    return (x - mx) * scale + my


def keypoint_metrics(points: dict[str, Tensor], batch: ClipBatch, task: str) -> dict[str, Tensor]:
    """PCK@0.05 (of the joints' box) for 2D; MPJPE and PA-MPJPE in mm for 3D; (B,) each, NaN where nobody is."""
    truth = batch.keypoints
    if task == "keypoints_2d":
        height, width = batch.rgb.shape[-2:]
        size = torch.tensor([width, height], device=truth.xy.device)
        seen = truth.visibility > 0
        xy = torch.where(seen[..., None], truth.xy * size, torch.nan)
        low = torch.where(seen[..., None], xy, torch.inf).amin(2)
        high = torch.where(seen[..., None], xy, -torch.inf).amax(2)
        box = (high - low).amax(-1)  # (B, T)
        good = ((points["xy"] * size - truth.xy * size).norm(dim=-1) < 0.05 * box[..., None]).float()
        return {"pck_0.05/keypoints_2d": masked_mean(good, seen).masked_fill(~seen.flatten(1).any(1), torch.nan)}
    predicted, target = (_joints14(x) for x in (points["xyz"], truth.xyz))
    nobody = ~truth.xyz.flatten(1).any(1)

    def millimetres(found: Tensor) -> Tensor:
        return (1000 * (found - target).norm(dim=-1).flatten(1).mean(1)).masked_fill(nobody, torch.nan)

    return {
        "mpjpe_mm/keypoints_3d": millimetres(predicted),
        "pa_mpjpe_mm/keypoints_3d": millimetres(procrustes(predicted, target)),
    }


def score(metrics: Metrics) -> float:
    """One number to choose the best checkpoint by; lower is better."""
    if all(name.startswith("psnr/") for name in metrics):
        return -sum(metrics.values()) / len(metrics)
    scale = {"iou": None, "mean_deg": 90.0, "rel": 1.0, "epe": 1.0, "pck_0.05": None, "pa_mpjpe_mm": 300.0}
    terms = []
    for name, value in metrics.items():
        unit = scale.get(name.split("/")[0], 0.0)
        if unit != 0.0:
            terms.append(1 - value if unit is None else value / unit)
    return sum(terms) / len(terms)


def _joints14(xyz: Tensor) -> Tensor:
    points = convert(xyz.detach().cpu().numpy(), DEFAULT_JOINT_SET, "h36m14")
    return torch.from_numpy(points).to(xyz)


def _picture(*videos: Tensor) -> Tensor:
    """First clips' last frames side by side: (3, H * rows, W * n) in [0, 1]."""
    rows = [torch.cat([v[i, :, -1] for v in videos], -1) for i in range(min(4, len(videos[0])))]
    return (torch.cat(rows, -2).float().cpu() / 2 + 0.5).clamp(0, 1)
