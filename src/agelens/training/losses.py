"""Losses. Ages are distributions over whole years; a missing label weighs nothing."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def interval_loss(log_probabilities: Tensor, inside: Tensor) -> Tensor:
    """-log of the probability mass inside each face's age band, shape (N,).

    Args:
        log_probabilities: Shape (N, bins).
        inside: 1 for the years of the band, 0 outside, shape (N, bins). A row of zeros (unknown age) gives 0.
    """
    known = inside.sum(dim=1) > 0
    masked = log_probabilities.masked_fill(inside == 0, float("-inf"))
    masked = torch.where(known[:, None], masked, log_probabilities)
    return torch.where(known, -torch.logsumexp(masked, dim=1), torch.zeros_like(masked[:, 0]))


def distribution_loss(log_probabilities: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy with a distribution over years, less the target's own entropy, shape (N,); zero rows give 0."""
    entropy = torch.special.xlogy(target, target).sum(dim=1)
    losses: Tensor = entropy - (target * log_probabilities).sum(dim=1)
    return losses


def gender_loss(logits: Tensor, female: Tensor, smoothing: float) -> Tensor:
    """Binary cross-entropy, shape (N,).

    Args:
        logits: Female positive, shape (N,).
        female: 0 to 1, shape (N,), NaN where unknown.
        smoothing: Share by which targets move towards one half.
    """
    known = ~torch.isnan(female)
    target = torch.where(known, female, torch.full_like(female, 0.5)) * (1 - smoothing) + smoothing / 2
    losses = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return torch.where(known, losses, torch.zeros_like(losses))


def band_mask(low: Tensor, high: Tensor, bins: int) -> Tensor:
    """1.0 for the whole years from `low` to `high` (inclusive), shape (N, bins); the last bin means that and more."""
    years = torch.arange(bins, dtype=low.dtype, device=low.device)[None]
    inside = (years >= low[:, None].clamp(max=bins - 1)) & (years <= high[:, None])
    return inside.float()


def cut_to_band(target: Tensor, inside: Tensor, floor: float = 1e-3) -> Tensor:
    """A teacher's distribution restricted to what the label allows, shape (N, bins).

    Where the teacher sees almost nothing inside the band, the band's years share the mass evenly.
    """
    known = inside.sum(dim=1, keepdim=True) > 0
    inside = torch.where(known, inside, torch.ones_like(inside))
    cut = (target + floor / inside.sum(dim=1, keepdim=True)) * inside
    return cut / cut.sum(dim=1, keepdim=True)


def ordinal_loss(log_probabilities: Tensor, inside: Tensor) -> Tensor:
    """Binary cross-entropy of "older than class k" for every k that the label decides, a tenth of the sum, shape (N,).

    The probability of being older than k is the mass above k, so the answers are in order by construction (as the
    shared weights of CORAL make them: Cao, Mirjalili & Raschka, Pattern Recognition Letters 2020). The tenth puts the
    loss on the scale of the others.

    Args:
        log_probabilities: Shape (N, C), classes in order.
        inside: 1 for the classes of the label's band, shape (N, C). A row of zeros gives 0.
    """
    below = torch.logcumsumexp(log_probabilities, dim=1)[:, :-1]  # log P(class <= k)
    above = torch.logcumsumexp(log_probabilities.flip(1), dim=1).flip(1)[:, 1:]  # log P(class > k)
    reached = torch.cumsum(inside, dim=1)[:, :-1]
    total = inside.sum(dim=1, keepdim=True)
    older, younger = (reached == 0) & (total > 0), (reached == total) & (total > 0)
    return -((above * older) + (below * younger)).sum(dim=1) / 10
