"""The small network that ships: the paper's parts around one image encoder that photographs taught.

In the place of Wan's autoencoder stands `NanoCodec`: EfficientNet-Lite0, a U-Net neck, and one decoder that sees the
neck's maps. A small autoencoder would blur outlines, and an encoder that saw photographs carries over to them. Wan's
transformer is the same class, smaller. Keypoint tokens are the paper's; `HeatmapHead` reads them with the frame's
features in sight, because a small transformer learns places sooner where they are read.

The rest of the package sees this wing through two names: `NanoCodec` and `HeatmapHead`.
"""

from thfm_ros.model.nano.codec import NanoCodec
from thfm_ros.model.nano.heads import HeatmapHead

__all__ = ["HeatmapHead", "NanoCodec"]
