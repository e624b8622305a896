"""A batch of frames and labels for the tiny models."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture
def frames() -> torch.Tensor:
    """(2, 3, 96, 128) normalized pixels: not square, so that swapped sides show."""
    return torch.randn(2, 3, 96, 128, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def labels() -> torch.Tensor:
    """(2, 96, 128) class ids with some ignored pixels."""
    ids = torch.randint(0, 4, (2, 96, 128), generator=torch.Generator().manual_seed(2))
    ids[:, :4] = 255
    return ids
