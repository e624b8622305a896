"""State that survives: what it holds, and that a restored optimizer goes on as the original, bit for bit."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file
from torch import nn

from liver_landmark.optim import SRFTGaLoreAdamW
from optim.small_network import equal, frames, groups, loss_of, network, states_of, weights_of
from training_runs import forget_accelerate

Trained = tuple[nn.Module, SRFTGaLoreAdamW]


@dataclass(frozen=True)
class Configuration:
    """Settings of the projected groups, and the weights' dtype."""

    settings: dict[str, Any] = field(default_factory=dict)
    dtype: torch.dtype = torch.float32


CONFIGURATIONS = {
    "srft": Configuration(),
    "rotated": Configuration({"moment_transfer": "rotate", "singular_basis": True, "oversampling": 2}),
    "oblivious": Configuration({"proj_type": "srft_oblivious", "moment_transfer": "rotate"}),
    "svd": Configuration({"proj_type": "svd", "side": "shorter", "stagger": False}),
    "warm_start": Configuration({"warm_start": True, "power_iterations": 1}),
    "batched": Configuration({"foreach": True, "stagger": False, "moment_transfer": "rotate"}),
    "loop": Configuration({"foreach": False, "proj_type": "gaussian"}),
    "bf16": Configuration({"moment_transfer": "rotate"}, torch.bfloat16),
    "bf16_batched": Configuration({"foreach": True, "proj_type": "srft_energy"}, torch.bfloat16),
    "float64": Configuration({"moment_transfer": "rotate"}, torch.float64),
}


@pytest.fixture(params=CONFIGURATIONS)
def configuration(request: pytest.FixtureRequest) -> Configuration:
    return CONFIGURATIONS[request.param]


def build(configuration: Configuration) -> Trained:
    model = network(configuration.dtype)
    return model, SRFTGaLoreAdamW(groups(model, **configuration.settings), lr=1e-2)


def batch(model: nn.Module, step: int) -> list[torch.Tensor]:
    return [tensor.to(next(model.parameters())) for tensor in frames(step)]


def take_steps(model: nn.Module, optimizer: torch.optim.Optimizer, steps: Iterable[int]) -> None:
    """One step for each number, and Python's and torch's generators stay where they are."""
    for step in steps:
        loss_of(model, batch(model, step)).backward()
        before = torch.get_rng_state(), random.getstate()
        optimizer.step()
        assert torch.equal(torch.get_rng_state(), before[0])
        assert random.getstate() == before[1]
        optimizer.zero_grad()


def train(configuration: Configuration) -> Trained:
    """Ten steps, refreshes among them."""
    trained = build(configuration)
    take_steps(*trained, range(10))
    return trained


def unlike(configuration: Configuration) -> Trained:
    """Other weights and other settings: what is right comes with the saved state."""
    model = network(configuration.dtype)
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(0.5)
    return model, SRFTGaLoreAdamW(groups(model, rank=2, update_proj_gap=3), lr=0.5)


def assert_equal_runs(one: Trained, other: Trained) -> None:
    assert equal(weights_of(one[0]), weights_of(other[0]))
    assert equal(states_of(one[1]), states_of(other[1]))


def tensors_of(optimizer: SRFTGaLoreAdamW) -> Iterator[torch.Tensor]:
    for entries in optimizer.state_dict()["state"].values():
        yield from entries.values()


def assert_plain(content: Any) -> None:
    """Only tensors, numbers, text and None in dictionaries and sequences; of these types, not of heirs."""
    if type(content) is dict:
        for key, value in content.items():
            assert type(key) in (str, int)
            assert_plain(value)
    elif type(content) in (list, tuple):
        for value in content:
            assert_plain(value)
    else:
        assert content is None or type(content) in (torch.Tensor, int, float, bool, str)


def test_state_is_plain_and_shares_and_keeps_no_memory(configuration: Configuration) -> None:
    _, optimizer = train(configuration)
    assert_plain(optimizer.state_dict())
    state = copy.deepcopy(optimizer.state_dict())
    model, loaded = unlike(configuration)
    loaded.load_state_dict(state)
    for tensor in (*tensors_of(optimizer), *tensors_of(loaded), *tensors_of(copy.deepcopy(optimizer))):
        assert tensor.untyped_storage().nbytes() == tensor.numel() * tensor.itemsize
    given = [value for entries in state["state"].values() for value in entries.values()]
    for tensor, ours in zip(given, tensors_of(loaded), strict=True):
        assert tensor.untyped_storage().data_ptr() != ours.untyped_storage().data_ptr()
    take_steps(model, loaded, range(3))
    assert state["param_groups"] == optimizer.state_dict()["param_groups"]
    for index, entries in optimizer.state_dict()["state"].items():
        assert equal(state["state"][index], entries)


def test_state_takes_as_many_bytes_as_the_closed_form_says(configuration: Configuration) -> None:
    model, optimizer = train(configuration)
    moment_bytes = 8 if configuration.dtype == torch.float64 else 4
    expected = 0
    for name, rank in (("0.weight", 3), ("3.weight", 4), ("6.weight", 5), ("8.weight", 1)):
        short, long = sorted(model.get_parameter(name).flatten(1).shape)
        if configuration.settings.get("side") == "shorter":
            long, short = short, long
        default = "srft_oblivious" if name == "6.weight" and not configuration.settings else "srft"
        kind = configuration.settings.get("proj_type", default)
        # The step is float32, the count of refreshes int64.
        expected += rank * (long * 4 * (kind != "srft_oblivious") + 2 * short * moment_bytes) + 4 + 8
    for parameter in optimizer.param_groups[-1]["params"]:
        expected += 2 * parameter.numel() * moment_bytes + 4
    assert sum(tensor.numel() * tensor.itemsize for tensor in tensors_of(optimizer)) == expected


def through_torch_save(trained: Trained, restored: Trained, folder: Path) -> Trained:
    model, optimizer = trained
    torch.save([model.state_dict(), optimizer.state_dict()], folder / "state.pt")
    weights, state = torch.load(folder / "state.pt", weights_only=True)
    restored[0].load_state_dict(weights)
    restored[1].load_state_dict(state)
    return restored


def through_safetensors_and_json(trained: Trained, restored: Trained, folder: Path) -> Trained:
    model, optimizer = trained
    state = optimizer.state_dict()
    flat = {f"{index}.{key}": value for index, rest in state["state"].items() for key, value in rest.items()}
    save_file(flat, folder / "state.safetensors")
    (folder / "groups.json").write_text(json.dumps(state["param_groups"], allow_nan=False))
    entries: dict[int, dict[str, torch.Tensor]] = {}
    for name, value in load_file(folder / "state.safetensors").items():
        index, key = name.split(".")
        entries.setdefault(int(index), {})[key] = value
    groups = json.loads((folder / "groups.json").read_text())
    restored[0].load_state_dict(model.state_dict())
    restored[1].load_state_dict({"state": entries, "param_groups": groups})
    return restored


def through_accelerate(trained: Trained, restored: Trained, folder: Path) -> Trained:
    forget_accelerate()
    accelerator = Accelerator(cpu=True)
    accelerator.prepare(*trained)
    accelerator.save_state(str(folder))
    forget_accelerate()
    accelerator = Accelerator(cpu=True)
    accelerator.prepare(*restored)
    accelerator.load_state(str(folder))
    forget_accelerate()
    return restored


def through_deepcopy(trained: Trained, restored: Trained, folder: Path) -> Trained:
    return copy.deepcopy(trained)


@pytest.mark.parametrize(
    "way", [through_torch_save, through_safetensors_and_json, through_accelerate, through_deepcopy]
)
def test_restored_optimizer_goes_on_as_the_original(configuration, way, tmp_path) -> None:
    original = train(configuration)
    counts = [int(value) for value in refresh_counts(original[1])]
    restored = way(original, unlike(configuration), tmp_path)
    assert restored[0] is not original[0]
    assert_equal_runs(original, restored)
    for step in range(10, 30):
        # Each draws from a generator that the other has moved.
        for run in (original, restored):
            torch.manual_seed(random.randrange(2**31))
            take_steps(*run, [step])
    assert_equal_runs(original, restored)
    assert all(int(now) > then for now, then in zip(refresh_counts(original[1]), counts, strict=True))


def refresh_counts(optimizer: SRFTGaLoreAdamW) -> list[torch.Tensor]:
    states = optimizer.state_dict()["state"].values()
    counts = [entries["refresh_count"] for entries in states if "refresh_count" in entries]
    assert len(counts) == 4
    return counts


@pytest.mark.parametrize("saved", [torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("now", [torch.bfloat16, torch.float32, torch.float64])
def test_state_of_weights_of_another_precision_goes_on(saved: torch.dtype, now: torch.dtype) -> None:
    _, original = train(Configuration(dtype=saved))
    model, restored = unlike(Configuration(dtype=now))
    restored.load_state_dict(original.state_dict())
    moments = torch.float64 if now == torch.float64 else torch.float32
    for ours, theirs in zip(tensors_of(restored), tensors_of(original), strict=True):
        assert ours.dtype in (moments, torch.float32, torch.int64)
        torch.testing.assert_close(ours.double(), theirs.double(), rtol=1e-6, atol=0)
    assert restored.state[model[0].weight]["exp_avg"].dtype == moments
    take_steps(model, restored, range(10, 20))
    assert int(restored.state[model[0].weight]["step"]) == 20


def test_hooks_before_loading_change_what_is_loaded_and_those_after_it_see_what_stays() -> None:
    configuration = CONFIGURATIONS["bf16"]
    _, original = train(configuration)
    model, restored = unlike(configuration)
    seen, weight = {}, model[0].weight

    def doubled(_: torch.optim.Optimizer, state: dict[str, Any]) -> dict[str, Any]:
        state = copy.deepcopy(state)
        state["state"][0]["exp_avg"] *= 2
        return state

    def look(loaded: torch.optim.Optimizer) -> None:
        seen.update({key: value.clone() for key, value in loaded.state[weight].items()})
        loaded.state[weight]["exp_avg"].zero_()

    restored.register_load_state_dict_pre_hook(doubled)
    restored.register_load_state_dict_post_hook(look)
    restored.load_state_dict(original.state_dict())
    assert torch.equal(seen["exp_avg"], 2 * original.state_dict()["state"][0]["exp_avg"])
    assert seen["exp_avg"].dtype == seen["basis"].dtype == torch.float32
    assert seen["refresh_count"].dtype == torch.int64
    assert not restored.state[weight]["exp_avg"].any()


def refusal_of(state: dict[str, Any], columns: int = 30) -> str:
    """The message with which an optimizer in use refuses a state; it must go on as if nothing had been."""
    model = network(torch.float32)
    model[6], model[8] = nn.Linear(13, columns), nn.Linear(columns, 1)
    optimizer = SRFTGaLoreAdamW(groups(model), lr=1e-2)
    take_steps(model, optimizer, range(2))
    undisturbed = copy.deepcopy((model, optimizer))
    with pytest.raises(ValueError, match=r".") as error:
        optimizer.load_state_dict(state)
    for run in ((model, optimizer), undisturbed):
        take_steps(*run, range(2, 12))
    assert_equal_runs((model, optimizer), undisturbed)
    assert "\n" not in str(error.value)
    return str(error.value)


def cut_moment(state: dict[str, Any]) -> None:
    state["state"][4]["exp_avg"] = state["state"][4]["exp_avg"][:-1]


def lose_second_weight(state: dict[str, Any]) -> None:
    for entries in ("params", "param_names"):
        del state["param_groups"][1][entries][1]


def of_adamw(state: dict[str, Any]) -> None:
    model, ours = build(Configuration())
    adamw = torch.optim.AdamW([{"params": group["params"]} for group in ours.param_groups])
    take_steps(model, adamw, range(2))
    state.update(adamw.state_dict())


def with_setting(key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda state: state["param_groups"][0].update({key: value})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (cut_moment, "the state of 0.bias does not fit: exp_avg is (6,), expected (7,)"),
        *(
            (lambda state, key=key: state["state"][2].pop(key), f"8.weight does not fit: {key} is missing")
            for key in ("step", "exp_avg", "exp_avg_sq", "refresh_count", "basis")
        ),
        (lambda state: state["state"][0].update(step=3), "step is no tensor"),
        (lambda state: state["param_groups"].pop(), "has 3 parameter group(s), this optimizer 4"),
        (lose_second_weight, "group 1 of the loaded state has 1 parameter(s), this optimizer's 2"),
        (lose_second_weight, "only one has 8.weight"),
        (lambda state: state["param_groups"][1]["param_names"].reverse(), "in another order, from 3.weight"),
        (of_adamw, "group 0 of the loaded state has no rank"),
        (with_setting("lr", None), "lr must be a number, got None"),
        (with_setting("lr", "1e-3"), "lr must be a number, got '1e-3'"),
        (with_setting("betas", 0.9), "betas must be two numbers"),
        (with_setting("betas", [0.9, "0.99"]), "betas must be a number, got '0.99'"),
        (with_setting("rank", 2.5), "rank must be an integer"),
        (with_setting("seed", -1), "seed must be an integer"),
        (with_setting("scale", "1"), "scale must be a number"),
        (with_setting("proj_type", "fft"), "proj_type: 'fft' is unknown"),
        (with_setting("matrix_axes", 1), "matrix_axes must be (row axes, column axes)"),
        (with_setting("matrix_axes", [0, [1, 2, 3]]), "matrix_axes must be (row axes, column axes)"),
        (with_setting("matrix_axes", None), "0.weight has 4 dimensions"),
    ],
)
def test_a_state_that_does_not_fit_is_refused_by_name(change, message) -> None:
    # Of an optimizer that refreshes at other steps than the one that is to take it over.
    state = copy.deepcopy(train(Configuration({"update_proj_gap": 2}))[1].state_dict())
    change(state)
    assert message in refusal_of(state)


def test_a_state_of_other_shapes_is_refused_by_name() -> None:
    message = refusal_of(train(CONFIGURATIONS["srft"])[1].state_dict(), columns=31)
    assert message == "the state of 8.weight does not fit: basis is (30, 1), expected (31, 1)"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_checkpoint_of_a_cpu_goes_on_on_a_gpu_and_comes_back(configuration, tmp_path) -> None:
    model, optimizer = train(configuration)
    torch.save(optimizer.state_dict(), tmp_path / "cpu.pt")
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    on_gpu = network(configuration.dtype).cuda()
    on_gpu.load_state_dict(weights)
    optimizer_on_gpu = SRFTGaLoreAdamW(groups(on_gpu))
    optimizer_on_gpu.load_state_dict(torch.load(tmp_path / "cpu.pt", weights_only=True))
    for entries in optimizer_on_gpu.state_dict()["state"].values():
        for key, value in entries.items():
            assert value.device.type == ("cpu" if key in ("step", "refresh_count") else "cuda"), key
    torch.save(optimizer_on_gpu.state_dict(), tmp_path / "gpu.pt")

    back = unlike(configuration)
    back[0].load_state_dict(weights)
    back[1].load_state_dict(torch.load(tmp_path / "gpu.pt", weights_only=True, map_location="cpu"))
    assert_equal_runs((model, optimizer), back)

    for each in (optimizer, back[1], optimizer_on_gpu):
        # No refresh: the signs of a factorization's columns are each library's own.
        for group in each.param_groups:
            group["update_proj_gap"] = 1000
    for step in range(10, 20):
        loss_of(model, batch(model, step)).backward()
        for ours, theirs in zip(model.parameters(), on_gpu.parameters(), strict=True):
            theirs.grad = ours.grad.cuda()
        for each in (optimizer, optimizer_on_gpu):
            each.step()
            each.zero_grad()
        take_steps(*back, [step])
    assert_equal_runs((model, optimizer), back)
    tolerance = 0.05 if configuration.dtype == torch.bfloat16 else 1e-3
    for ours, theirs in zip(model.parameters(), on_gpu.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs.cpu(), atol=tolerance, rtol=tolerance)
