"""EVA-CLIP's vision transformer (arXiv 2303.15389) without its last norm, as SEED and LaVIT look at images.

timm's implementation, whose parameters bear the authors' names. Shape suffixes: B batch, H W pixels, D width,
N patches.
"""

from functools import partial

import torch
from torch import Tensor, nn

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


def clip_range(images_B3HW: Tensor) -> Tensor:
    """Images in [0, 1] as the transformer takes them: minus CLIP's mean, over CLIP's standard deviation."""
    mean, std = (images_B3HW.new_tensor(v)[:, None, None] for v in (CLIP_MEAN, CLIP_STD))
    return (images_B3HW - mean) / std


def from_clip_range(x_B3HW: Tensor) -> Tensor:
    """Inverse of `clip_range`."""
    mean, std = (x_B3HW.new_tensor(v)[:, None, None] for v in (CLIP_MEAN, CLIP_STD))
    return x_B3HW * std + mean


def eva_vit(
    *,
    image_size: int = 224,
    patch: int = 14,
    width: int = 1408,
    depth: int = 40,
    heads: int = 16,
    mlp_ratio: float = 4.3637,
) -> nn.Module:
    """A transformer from x [B, 3, H, W] (see `clip_range`) to the features [B, 1 + N, D] of its last block, class token
    first. The defaults are ViT-g/14; other sizes have the same keys.

    Pre-norm blocks with LayerNorm (eps 1e-6), GELU, learned positions, and no bias on the keys.
    """
    from timm.models.eva import Eva, EvaAttention  # timm takes seconds to import

    model = Eva(
        img_size=image_size,
        patch_size=patch,
        embed_dim=width,
        depth=depth,
        num_heads=heads,
        mlp_ratio=mlp_ratio,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        num_classes=0,
        global_pool="",
    )
    model.norm = nn.Identity()
    for module in model.modules():
        if isinstance(module, EvaAttention):  # timm makes this constant with torch.empty: nothing in an empty model
            module.register_buffer("k_bias", torch.zeros(width), persistent=False)
    return model
