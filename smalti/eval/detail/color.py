"""Color differences: sRGB to CIELAB and CIEDE2000.

Shape suffixes: B batch, H W pixels, N patches.
"""

import math

import torch
from torch import Tensor

_XYZ = ((0.4124564, 0.3575761, 0.1804375), (0.2126729, 0.7151522, 0.0721750), (0.0193339, 0.1191920, 0.9503041))
"""Linear sRGB to CIE XYZ, D65 (IEC 61966-2-1)."""


def srgb_to_lab(rgb: Tensor) -> Tensor:
    """float64 [..., 3]: CIELAB (D65, 2 degrees) of sRGB code values [..., 3] in [0, 1].

    >>> srgb_to_lab(torch.tensor([1.0, 1.0, 1.0])).round(decimals=3)[0]
    tensor(100., dtype=torch.float64)
    """
    rgb = rgb.double()
    linear = torch.where(rgb <= 0.04045, rgb / 12.92, ((rgb.clamp(min=0) + 0.055) / 1.055) ** 2.4)
    matrix = torch.tensor(_XYZ, dtype=torch.float64, device=rgb.device)
    xyz = linear @ matrix.T / matrix.sum(dim=1)
    f = torch.where(xyz > (6 / 29) ** 3, xyz.clamp(min=1e-12) ** (1 / 3), xyz * (29 / 6) ** 2 / 3 + 4 / 29)
    x, y, z = f.unbind(-1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=-1)


def ciede2000(lab1: Tensor, lab2: Tensor) -> Tensor:
    """float64 [...]: CIEDE2000 difference of two CIELAB colors [..., 3], kL = kC = kH = 1.

    Sharma, Wu, Dalal, "The CIEDE2000 color-difference formula", Color Research and Application 30(1), 2005; the
    numbers in the comments are its equations. About 1 is just noticeable.
    """
    (l1, a1, b1), (l2, a2, b2) = lab1.double().unbind(-1), lab2.double().unbind(-1)
    mean_chroma = (torch.hypot(a1, b1) + torch.hypot(a2, b2)) / 2  # (3)
    a1, a2 = (a * (1 + _saturation(mean_chroma) / 2) for a in (a1, a2))  # (4), (5)
    c1, c2 = torch.hypot(a1, b1), torch.hypot(a2, b2)  # (6)
    h1, h2 = (torch.rad2deg(torch.atan2(b, a)) % 360 for a, b in ((a1, b1), (a2, b2)))  # (7)
    gray = c1 * c2 == 0
    turn = h2 - h1
    turn = torch.where(turn > 180, turn - 360, torch.where(turn < -180, turn + 360, turn))  # (10)
    turn = torch.where(gray, 0.0, turn)
    d_hue = 2 * (c1 * c2).sqrt() * torch.sin(torch.deg2rad(turn / 2))  # (11)
    middle = (h1 + h2) / 2
    across = torch.where(h1 + h2 < 360, middle + 180, middle - 180)
    middle = torch.where((h1 - h2).abs() > 180, across, middle)
    hue = torch.where(gray, h1 + h2, middle)  # (14)
    lightness, chroma = (l1 + l2) / 2, (c1 + c2) / 2  # (12), (13)
    weight = 1 - 0.17 * _cos(hue - 30) + 0.24 * _cos(2 * hue) + 0.32 * _cos(3 * hue + 6) - 0.2 * _cos(4 * hue - 63)
    from_gray = (lightness - 50).square()
    dl = (l2 - l1) / (1 + 0.015 * from_gray / (20 + from_gray).sqrt())  # (8), (18)
    dc = (c2 - c1) / (1 + 0.045 * chroma)  # (9), (19)
    dh = d_hue / (1 + 0.015 * chroma * weight)  # (20)
    angle = torch.deg2rad(60 * torch.exp(-(((hue - 275) / 25) ** 2)))  # (16)
    rotation = -torch.sin(angle) * 2 * (1 - _saturation(chroma))  # (17), (21)
    return (dl.square() + dc.square() + dh.square() + rotation * dc * dh).clamp(min=0).sqrt()  # (22)


def patch_difference(images: Tensor, label: Tensor, colors: Tensor) -> Tensor:
    """float64 [N]: CIEDE2000 between each known color [N, 3] and the mean sRGB color of its patch.

    `images` [B, 3, H, W] in [0, 1]; `label` int64 [B, H, W] gives the patch of a pixel, -1 for none. Errors:
    ValueError for a patch without pixels.
    """
    count = len(colors)
    index = torch.where(label >= 0, label, count).flatten()
    pixels = images.double().permute(0, 2, 3, 1).reshape(-1, 3)
    total = pixels.new_zeros(count + 1, 3).index_add(0, index, pixels)[:count]
    number = torch.bincount(index, minlength=count + 1)[:count]
    if bool((number == 0).any()):
        raise ValueError(f"patches {torch.nonzero(number == 0).flatten().tolist()} have no pixels in the label map")
    return ciede2000(srgb_to_lab(colors), srgb_to_lab(total / number[:, None]))


def _saturation(chroma: Tensor) -> Tensor:
    """1 - sqrt(C^7 / (C^7 + 25^7)), the factor G of equation (4) doubled."""
    seventh = chroma**7
    return 1 - (seventh / (seventh + 25.0**7)).sqrt()


def _cos(degrees: Tensor) -> Tensor:
    return torch.cos(degrees * math.pi / 180)
