"""The matrices that are measured: a configuration's shapes, matrices of known spectra, real gradients."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoConfig, AutoModel

from liver_landmark import LiverLandmarkImageProcessor
from liver_landmark.curves import get_protocol, rasterize_landmarks
from liver_landmark.optim import galore_param_groups
from liver_landmark.synthetic.anatomy import build_patient
from liver_landmark.synthetic.domains import get_domain
from liver_landmark.synthetic.render import render_frame

Shape = tuple[int, int]

# Singular values σᵢ = i^-exponent.
SPECTRA = {"i^-1/2": 0.5, "1/i": 1.0}
QUICK_MATRICES = 6


def projected_shapes(folder: Path, quick: bool) -> dict[str, Shape]:
    """Shapes of the matrices that the model's optimizer projects by default, by name, in its order.

    `quick` keeps the smallest few. Nothing is allocated: the model is built on the meta device.
    """
    with torch.device("meta"):
        model = AutoModel.from_config(AutoConfig.from_pretrained(folder))
    shapes = {name: tuple(weight.shape) for name, weight in galore_param_groups(model)[0]["params"]}
    if not quick:
        return shapes
    smallest = sorted(shapes, key=lambda name: (shapes[name][0] * shapes[name][1], name))[:QUICK_MATRICES]
    return {name: shape for name, shape in shapes.items() if name in smallest}


def synthetic_matrix(shape: Shape, exponent: float, seed: int = 0) -> torch.Tensor:
    """A float32 matrix (m, n) with singular values i^-exponent and uniformly random singular vectors."""
    generator = torch.Generator().manual_seed(seed)
    left, right = (torch.linalg.qr(torch.randn(size, min(shape), generator=generator)).Q for size in shape)
    values = torch.arange(1, min(shape) + 1, dtype=torch.float32) ** -exponent
    return (left * values) @ right.T


def drifted(matrix: torch.Tensor, drift: float, seed: int) -> torch.Tensor:
    """√(1 - d²) · G + d · G', of which G' has G's singular values and unrelated singular vectors.

    Args:
        matrix: G (m, n).
        drift: d, by which the result differs from G: 0.1 is 10 %, 1 a wholly different matrix.
        seed: Of G' = Π₁ G Π₂, with random permutations and signs Π.
    """
    generator = torch.Generator().manual_seed(seed)
    other = matrix
    for axis, size in enumerate(matrix.shape):
        order = torch.randperm(size, generator=generator).to(matrix.device)
        signs = (torch.randint(0, 2, (size,), generator=generator) * 2 - 1).to(matrix)
        other = other.index_select(axis, order) * (signs if axis else signs.unsqueeze(1))
    return (1 - drift**2) ** 0.5 * matrix + drift * other


def real_gradients(
    folder: Path, weights: Path | None, size_px: int, names: list[str], device: torch.device
) -> list[torch.Tensor]:
    """The loss's gradients with respect to the named matrices, for one synthetic frame.

    Args:
        folder: The configuration, and its image processor's settings.
        weights: A model folder to load; None: the configuration with random weights.
        size_px: Side of the square frame.
        names: Parameters; no other gradient is computed.
        device: Where to compute, and where the gradients stay.

    Raises:
        ValueError: a gradient that is zero or not finite: nothing can be said of its spectrum.
    """
    if weights is None:
        torch.manual_seed(0)
        model = AutoModel.from_config(AutoConfig.from_pretrained(folder))
    else:
        model = AutoModel.from_pretrained(weights)
    model = model.float().to(device).eval()
    parameters = dict(model.named_parameters())
    for name, parameter in parameters.items():
        parameter.requires_grad_(name in names)
    frame = render_frame(build_patient(get_domain("a"), seed=0, number=0), 0, size_px, size_px)
    mask = rasterize_landmarks(frame.landmarks, size_px, size_px, get_protocol("synthetic"))
    processor = LiverLandmarkImageProcessor.from_pretrained(weights or folder)
    size = {"height": size_px, "width": size_px}
    inputs = processor(images=[frame.image], segmentation_maps=[mask], size=size, return_tensors="pt")
    model(**{key: value.to(device) for key, value in inputs.items()}).loss.backward()
    gradients = [parameters[name].grad.detach() for name in names]
    for name, gradient in zip(names, gradients, strict=True):
        norm = float(gradient.norm())
        if not 0 < norm < float("inf"):
            raise ValueError(f"{name}: the norm of its gradient is {norm}: choose other --model-weights")
    return gradients
