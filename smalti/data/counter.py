"""Randomness as a function of where one is: a run that stops and goes on draws what it would have drawn."""

import hashlib

import torch


def seed_of(*place: int | str) -> int:
    """A number below 2**63 that depends on nothing but its arguments, such as (seed, "batch", step, rank)."""
    text = "/".join(map(str, place))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator_at(*place: int | str, device: torch.device | str = "cpu") -> torch.Generator:
    """A torch generator seeded with `seed_of(*place)`."""
    return torch.Generator(device).manual_seed(seed_of(*place))
