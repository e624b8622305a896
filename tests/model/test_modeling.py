"""The model as transformers' own tests would try it, and as one graph."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from liver_landmark import LiverLandmarkForSemanticSegmentation
from tiny_models import tiny_config, tiny_model

LITE = {"model_type": "efficientnet_lite"}
VARIANTS = [
    {},
    {"use_depth": False},
    {"fusion_query": "rgb", "fusion_num_layers": 2},
    {"decoder_type": "released", "decoder_channels": [32, 32, 32], "norm_type": "batch"},
    {"fusion_residual": "none", "fusion_pre_norm": False, "depth_taps": "last"},
    {"fusion_type": "bidirectional", "fusion_num_layers": 2, "decoder_type": "unet"},
    {"fusion_type": "gated", "detail_channels": 8, "decoder_channels": [32, 16, 8, 8]},
    {"fusion_type": "gated", "fusion_residual": "none", "depth_config": LITE},
    {"vision_config": LITE, "decoder_type": "unet", "decoder_channels": [32, 16, 8, 8], "use_depth": False},
    {"vision_config": LITE, "decoder_channels": [32, 16, 8], "context_num_layers": 2},
    {"vision_config": LITE, "depth_config": LITE, "fusion_type": "gated"},
    {"depth_target": "both", "depth_feedback": True, "deep_supervision_weight": 0.5},
    {"decoder_type": "mask_transformer", "decoder_hidden_size": 32, "deep_supervision_weight": 0.5},
    {"decoder_type": "curve", "decoder_hidden_size": 32, "num_curves": 3, "use_depth": False},
]
variants = pytest.mark.parametrize(
    "fields",
    VARIANTS,
    ids=[f"{number} {','.join(fields) or 'default'}" for number, fields in enumerate(VARIANTS)],
)


@pytest.mark.parametrize("fields", [*VARIANTS, {"open_gate": False}], ids=str)
def test_forward_and_backward(fields: dict, frames: torch.Tensor, labels: torch.Tensor) -> None:
    model = tiny_model(**fields).train()
    output = model(frames, labels, depth_labels=0.1 + frames[:, 0].abs())
    stride = model.config.output_stride
    assert output.logits.shape == (2, 4, 96 // stride, 128 // stride)
    assert output.loss.shape == ()
    output.loss.backward()
    # Every parameter is trainable, gets a gradient, and that gradient is not zero. Key biases are the
    # exception by mathematics: softmax does not see a shift that all keys share.
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad, name
        assert parameter.grad is not None, name
        # Behind a closed gate, only the gate itself: so it can open by training.
        behind = "open_gate" in fields and name.startswith(("fusion.", "depth_")) and name != "fusion.gate"
        if not name.endswith("k_proj.bias") and not behind:
            assert parameter.grad.abs().sum() > 0, name


def test_a_closed_gate_is_the_rgb_only_model(frames: torch.Tensor) -> None:
    fused, rgb = tiny_model(open_gate=False), tiny_model(use_depth=False)
    rgb.load_state_dict(fused.state_dict(), strict=False)
    torch.testing.assert_close(fused(frames).logits, rgb(frames).logits, rtol=0, atol=0)
    assert not torch.equal(tiny_model()(frames).logits, rgb(frames).logits)


def test_new_weights_are_all_initialized() -> None:
    model = tiny_model()
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        assert torch.isfinite(tensor).all(), name
        assert tensor.device.type == "cpu", name
    assert set(dict(model.named_buffers())) == set()  # nothing that loading could leave as garbage


@variants
def test_save_and_load_twice_gives_equal_outputs(fields: dict, frames: torch.Tensor, tmp_path: Path) -> None:
    model = tiny_model(**fields)
    expected = model(frames).logits
    for generation in ("first", "second"):
        model.save_pretrained(tmp_path / generation)
        model, info = LiverLandmarkForSemanticSegmentation.from_pretrained(
            tmp_path / generation, output_loading_info=True
        )
        assert not info["missing_keys"]
        assert not info["unexpected_keys"]
        torch.testing.assert_close(model(frames).logits, expected, rtol=0, atol=0)
    assert not list(tmp_path.glob("*/*.bin"))


def test_a_missing_weight_is_reported_and_initialized(tmp_path: Path, frames: torch.Tensor) -> None:
    model = tiny_model()
    state = model.state_dict()
    lost = ["decoder.classifier.weight", "fusion.gate", "fusion.layers.0.attention.q_proj.weight"]
    for name in lost:
        del state[name]
    model.save_pretrained(tmp_path, state_dict=state)
    loaded, info = LiverLandmarkForSemanticSegmentation.from_pretrained(tmp_path, output_loading_info=True)
    assert set(info["missing_keys"]) == set(lost)
    # The gate starts at zero; anything else would be the memory that happened to be there.
    assert torch.equal(loaded.fusion.gate, torch.zeros_like(loaded.fusion.gate))
    assert 0 < loaded.decoder.classifier.weight.std() < 1
    assert torch.isfinite(loaded(frames).logits).all()


def test_a_mismatched_weight_is_an_error(tmp_path: Path) -> None:
    tiny_model().save_pretrained(tmp_path)
    other = tiny_config(decoder_channels=[32, 16, 16])
    with pytest.raises(RuntimeError, match="ignore_mismatched_sizes"):
        LiverLandmarkForSemanticSegmentation.from_pretrained(tmp_path, config=other)


@variants
def test_is_deterministic_batches_do_not_mix_and_eager_equals_sdpa(fields, frames) -> None:
    # In float64, where what is left of a difference would be one of mathematics.
    model, frames = tiny_model(**fields).double(), frames.double()
    assert model.config._attn_implementation == "sdpa"
    together = model(frames).logits
    assert torch.equal(together, model(frames).logits)
    alone = torch.cat([model(frame[None]).logits for frame in frames])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)
    model.set_attn_implementation("eager")
    torch.testing.assert_close(model(frames).logits, together, rtol=1e-5, atol=1e-5)


def test_attention_weights_are_those_of_the_textbook(frames: torch.Tensor) -> None:
    model = tiny_model(fusion_num_heads=4)
    output = model(frames, output_attentions=True, output_hidden_states=True)
    (weights,) = output.attentions
    assert weights.shape == (2, 4, 6 * 8, 6 * 8)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 4, 48))
    # Recomputed by einsum from the projected maps: depth asks, RGB answers.
    rgb, depth = output.hidden_states[2], output.hidden_states[3]
    layer = model.fusion.layers[0]
    query = layer.attention.q_proj(layer.query_norm(depth.flatten(2).transpose(1, 2)))
    key = layer.attention.k_proj(layer.context_norm(rgb.flatten(2).transpose(1, 2)))
    scores = torch.einsum("bnhc,bmhc->bhnm", query.unflatten(-1, (4, 8)), key.unflatten(-1, (4, 8)))
    torch.testing.assert_close(weights, (scores / 8**0.5).softmax(-1), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(output.logits, model(frames).logits, rtol=1e-4, atol=1e-5)


def test_the_attention_matrix_does_not_exist_unless_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model()
    made = []
    softmax = F.softmax

    def watched(scores: torch.Tensor, *args: object, **kwargs: object) -> torch.Tensor:
        made.append(tuple(scores.shape[-2:]))
        return softmax(scores, *args, **kwargs)

    monkeypatch.setattr(F, "softmax", watched)
    frame = torch.randn(1, 3, 128, 160)
    tokens = 8 * 10
    assert model(frame).attentions is None
    assert (tokens, tokens) not in made
    model(frame, output_attentions=True)
    assert (tokens, tokens) in made


@variants
def test_hidden_states_and_attentions_are_tuples_of_the_maps_on_the_way(fields, frames) -> None:
    model = tiny_model(**fields)
    output = model(frames[:1], output_hidden_states=True, output_attentions=True)
    assert type(output.hidden_states) is type(output.attentions) is tuple
    assert all(isinstance(entry, torch.Tensor) for entry in (*output.hidden_states, *output.attentions))
    config = model.config
    each = {"cross_attention": 1, "bidirectional": 2, "gated": 0}[config.fusion_type]
    assert len(output.attentions) == (each * config.fusion_num_layers if config.use_depth else 0)
    shapes = [tuple(state.shape[1:]) for state in output.hidden_states]

    def maps(channels: dict[int, int]) -> list[tuple[int, int, int]]:
        return [(width, 96 // stride, 128 // stride) for stride, width in channels.items()]

    channels = model.vision_branch.channels
    expected = maps(channels)
    if config.use_depth:
        # Below the logits' stride nothing is fused, nor above 16 by an encoder that ends there.
        last = 16 if config.depth_config.model_type == "efficientnet_lite" else 32
        every = [s for s in channels if config.output_stride <= s <= last]
        fused_at = every if config.fusion_type == "gated" else [16]
        assert model.depth_branch.strides == fused_at
        expected = maps(channels) + maps({s: channels[s] for s in fused_at}) + maps({16: channels[16]})
    strides = [16] * 3 if config.decoder_type == "released" else (16, 8, 4, 2)
    for width, stride in zip(config.decoder_channels, strides, strict=False):
        expected += maps({stride: width})
    assert shapes == expected


def test_return_dict_false_gives_the_same_values(frames: torch.Tensor, labels: torch.Tensor) -> None:
    model = tiny_model()
    named = model(frames, labels, output_attentions=True)
    plain = model(frames, labels, output_attentions=True, return_dict=False)
    assert isinstance(plain, tuple)
    assert len(plain) == 3
    assert torch.equal(plain[0], named.loss)
    assert torch.equal(plain[1], named.logits)


def test_depth_branch_drops_the_cls_token_and_keeps_places() -> None:
    """The tapped maps are the patch tokens 1…N in row order; a CLS token kept would shift them by one."""
    branch = tiny_model(depth_taps="last").depth_branch
    frame = torch.randn(1, 3, 70, 98)
    maps = branch.encoder(frame).feature_maps[-1]
    hidden = branch.encoder.embeddings(frame)
    for layer in branch.encoder.encoder.layer:
        hidden = layer(hidden)
    tokens = branch.encoder.layernorm(hidden)
    assert maps.shape == (1, 32, 5, 7)
    for row, column in [(0, 0), (0, 6), (4, 0), (3, 5)]:
        torch.testing.assert_close(maps[0, :, row, column], tokens[0, 1 + row * 7 + column])


def test_depth_branch_input_is_whole_patches_in_proportion() -> None:
    branch = tiny_model().depth_branch  # 128 px of frame are 70 px of depth input
    assert branch.input_size(128, 128) == (70, 70)
    assert branch.input_size(128, 256) == (70, 140)
    assert branch.input_size(32, 96) == (14, 56)


@settings(max_examples=12, deadline=None)
@given(rows=st.integers(1, 6), columns=st.integers(1, 6))
def test_any_multiple_of_32_works(rows: int, columns: int) -> None:
    frame = torch.zeros(1, 3, 32 * rows, 32 * columns)
    assert tiny_model()(frame).logits.shape == (1, 4, 8 * rows, 8 * columns)


@settings(max_examples=50, deadline=None)
@given(height=st.integers(1, 300), width=st.integers(1, 300))
def test_other_sizes_are_refused_with_the_nearest_that_works(height: int, width: int) -> None:
    branch = SIZE_CHECKED.vision_branch
    if height % 32 == 0 and width % 32 == 0:
        branch.check_size(height, width)
        return
    with pytest.raises(ValueError, match="multiples of 32") as error:
        SIZE_CHECKED(torch.zeros(1, 3, height, width))
    offered = [int(side) for side in str(error.value).rsplit(" ", 1)[1].split("x")]
    for side, nearest in zip((height, width), offered, strict=True):
        candidates = range(32, 400, 32)
        assert abs(nearest - side) == min(abs(candidate - side) for candidate in candidates)
    branch.check_size(*offered)


SIZE_CHECKED = tiny_model()


@pytest.mark.parametrize("shape", [(3, 96, 96), (1, 1, 96, 96), (1, 4, 96, 96)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"pixel_values must be \(B, 3, H, W\)"):
        SIZE_CHECKED(torch.zeros(shape))


def test_half_precision_is_close_to_fp32(frames: torch.Tensor, labels: torch.Tensor) -> None:
    model = tiny_model()
    exact = model(frames, labels)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = model(frames, labels)
    assert output.loss.dtype == torch.float32
    assert float(output.loss.detach()) == pytest.approx(float(exact.loss.detach()), rel=0.05)
    output.loss.backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())
    half = model.to(torch.bfloat16)(frames.bfloat16()).logits
    assert half.dtype == torch.bfloat16
    assert (half.float() - exact.logits).abs().mean() < 0.1 * exact.logits.abs().mean()


def saved_bytes(model: torch.nn.Module, frames: torch.Tensor, labels: torch.Tensor) -> int:
    """Bytes of distinct activations that the graph holds between forward and backward."""
    storages: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = model(frames, labels).loss
    loss.backward()
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    return sum(size for pointer, size in storages.items() if pointer not in own)


def test_gradient_checkpointing_has_equal_gradients_and_saves_memory(frames, labels) -> None:
    plain = tiny_model().train()
    checkpointed = copy.deepcopy(plain)
    checkpointed.activation_checkpointing_enable()
    plain_bytes = saved_bytes(plain, frames, labels)
    assert saved_bytes(checkpointed, frames, labels) < 0.7 * plain_bytes
    for (name, expected), parameter in zip(plain.named_parameters(), checkpointed.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, expected.grad, rtol=0, atol=0, msg=name)


def test_overfits_one_batch() -> None:
    model = tiny_model().train()
    frame = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    target = torch.zeros(1, 64, 64, dtype=torch.long)
    target[:, 10:16, 5:50], target[:, 30:36, 10:60], target[:, 40:60, 20:26] = 1, 2, 3
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    first = None
    for _ in range(120):
        loss = model(frame, target).loss
        first = float(loss.detach()) if first is None else first
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    predicted = F.interpolate(model(frame).logits, size=(64, 64), mode="bilinear").argmax(1)
    assert float(loss.detach()) < 0.15 * first
    for index in (1, 2, 3):
        truth, found = target == index, predicted == index
        assert 2 * (truth & found).sum() / (truth.sum() + found.sum()) > 0.9


def test_golden_logits() -> None:
    """A change of the architecture must be meant: these numbers come from this code at this seed."""
    model = tiny_model(seed=7)
    with torch.no_grad():
        for parameter in model.parameters():  # torch's generator streams are stable; fill by our own rule
            values = torch.arange(parameter.numel(), dtype=torch.float64)
            parameter.copy_((torch.sin(values * 0.7) * 0.1).reshape(parameter.shape))
    ramp = torch.linspace(-1, 1, 3 * 64 * 64, dtype=torch.float64).reshape(1, 3, 64, 64).float()
    with torch.no_grad():
        logits = model(torch.cos(5 * ramp)).logits
    found = [*logits[0, :, 3, 5].tolist(), float(logits.mean()), float(logits.std())]
    assert found == pytest.approx(GOLDEN, abs=2e-5)


GOLDEN = [-0.036281, 0.026598, 0.059862, 0.047478, 0.050604, 0.089637]


graph_variants = pytest.mark.parametrize(
    "fields",
    [
        pytest.param({}, id="default"),
        pytest.param({"use_depth": False}, id="rgb only", marks=pytest.mark.slow),
        pytest.param(
            {"decoder_type": "released", "norm_type": "batch"}, id="released", marks=pytest.mark.slow
        ),
        pytest.param(
            {
                "vision_config": LITE,
                "decoder_type": "unet",
                "decoder_channels": [16, 8, 8, 8],
                "use_depth": False,
            },
            id="compact",
        ),
        pytest.param(
            {"decoder_type": "mask_transformer", "decoder_hidden_size": 32, "use_depth": False},
            id="mask_transformer",
        ),
        pytest.param({"fusion_type": "gated", "depth_target": "both"}, id="gated", marks=pytest.mark.slow),
        pytest.param({"fusion_type": "bidirectional"}, id="bidirectional", marks=pytest.mark.slow),
    ],
)


@graph_variants
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
    assert all(weight.grad is not None for weight in model.decoder.parameters())


@pytest.mark.slow
def test_compiles_with_inductor(frames: torch.Tensor) -> None:
    model = tiny_model()
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True)
    with torch.no_grad():
        torch.testing.assert_close(compiled(frames).logits, model(frames).logits, rtol=1e-3, atol=1e-4)


@graph_variants
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
        logits, *_ = program.module()(batch_of_frames, return_dict=False)
        torch.testing.assert_close(logits, model(batch_of_frames).logits, rtol=1e-4, atol=1e-5)
