"""The model as one graph: torch.compile and torch.export."""

from __future__ import annotations

import pytest
import torch

from tiny_models import tiny_model

variants = pytest.mark.parametrize(
    "fields",
    [
        pytest.param({}, id="default"),
        pytest.param({"use_depth": False}, id="rgb only", marks=pytest.mark.slow),
        pytest.param(
            {"decoder_type": "released", "norm_type": "batch"}, id="released", marks=pytest.mark.slow
        ),
    ],
)


@variants
def test_compiles_into_one_graph(fields: dict, frames: torch.Tensor, labels: torch.Tensor) -> None:
    # "aot_eager" traces forward and backward as inductor would, without minutes of code generation;
    # fullgraph=True fails on any break.
    model = tiny_model(**fields)
    expected = model(frames, labels)
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager", dynamic=False)
    output = compiled(frames, labels)
    torch.testing.assert_close(output.logits, expected.logits, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(output.loss, expected.loss, rtol=1e-4, atol=1e-5)
    output.loss.backward()
    assert model.decoder.classifier.weight.grad.abs().sum() > 0


@pytest.mark.slow
def test_compiles_with_inductor(frames: torch.Tensor) -> None:
    model = tiny_model()
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True)
    with torch.no_grad():
        torch.testing.assert_close(compiled(frames).logits, model(frames).logits, rtol=1e-3, atol=1e-4)


@variants
def test_exports_with_a_dynamic_batch(fields: dict, frames: torch.Tensor) -> None:
    model = tiny_model(**fields)
    batch = torch.export.Dim("batch", min=1, max=8)
    program = torch.export.export(
        model,
        (frames,),
        {"return_dict": False},
        dynamic_shapes={"pixel_values": {0: batch}, "return_dict": None},
    )
    for size in (1, 2, 5):
        batch_of_frames = torch.randn(size, *frames.shape[1:])
        (logits,) = program.module()(batch_of_frames, return_dict=False)
        torch.testing.assert_close(logits, model(batch_of_frames).logits, rtol=1e-4, atol=1e-5)
