"""State that survives: what it holds, and that a restored optimizer goes on as the original, bit for bit."""

from __future__ import annotations

import copy
import json
import pickle
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file
from torch import nn

from checkpointed_network import (
    CONFIGURATIONS,
    CONVOLUTION,
    LINEAR,
    Configuration,
    Network,
    assert_equal_runs,
    assert_equal_states,
    build_optimizer,
    take_steps,
)
from liver_landmark.optim import SRFTGaLoreAdamW
from optim.gradients import run as run_steps
from optim.gradients import weights
from training_runs import forget_accelerate

Trained = tuple[Network, SRFTGaLoreAdamW]


@pytest.fixture(params=CONFIGURATIONS)
def configuration(request: pytest.FixtureRequest) -> Configuration:
    return CONFIGURATIONS[request.param]


def train(configuration: Configuration) -> Trained:
    """Ten steps, refreshes among them."""
    network = Network(dtype=configuration.dtype)
    optimizer = build_optimizer(network, **configuration.settings)
    take_steps(network, optimizer, range(10))
    return network, optimizer


def unlike(configuration: Configuration) -> Trained:
    """Other weights and other settings: what is right comes with the saved state."""
    network = Network(seed=1, dtype=configuration.dtype)
    return network, build_optimizer(network, lr=0.5, rank=2, update_proj_gap=3)


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


def test_state_is_plain_and_no_tensor_keeps_a_larger_one_alive(configuration: Configuration) -> None:
    _, optimizer = train(configuration)
    assert_plain(optimizer.state_dict())
    _, loaded = unlike(configuration)
    loaded.load_state_dict(optimizer.state_dict())
    for tensor in (*tensors_of(optimizer), *tensors_of(loaded), *tensors_of(copy.deepcopy(optimizer))):
        assert tensor.untyped_storage().nbytes() == tensor.numel() * tensor.itemsize


def test_state_takes_as_many_bytes_as_the_closed_form_says(configuration: Configuration) -> None:
    network, optimizer = train(configuration)
    moment_bytes = 8 if configuration.dtype == torch.float64 else 4
    expected = 0
    for long, short, rank in [*LINEAR, CONVOLUTION]:
        if configuration.settings.get("side") == "shorter":
            long, short = short, long
        basis_bytes = 0 if configuration.settings.get("proj_type") == "srft_oblivious" else 4
        # The step is float32, the count of refreshes int64.
        expected += rank * (long * basis_bytes + 2 * short * moment_bytes) + 4 + 8
    projected = ("first.weight", "second.weight", "wide.weight", "convolution.weight")
    for name, parameter in network.named_parameters():
        if name not in projected:
            expected += 2 * parameter.numel() * moment_bytes + 4
    assert sum(tensor.numel() * tensor.itemsize for tensor in tensors_of(optimizer)) == expected


def through_torch_save(trained: Trained, restored: Trained, folder: Path) -> Trained:
    network, optimizer = trained
    torch.save([network.state_dict(), optimizer.state_dict()], folder / "state.pt")
    weights, state = torch.load(folder / "state.pt", weights_only=True)
    restored[0].load_state_dict(weights)
    restored[1].load_state_dict(state)
    return restored


def through_safetensors_and_json(trained: Trained, restored: Trained, folder: Path) -> Trained:
    network, optimizer = trained
    state = optimizer.state_dict()
    flat = {f"{index}.{key}": value for index, rest in state["state"].items() for key, value in rest.items()}
    save_file(flat, folder / "state.safetensors")
    (folder / "groups.json").write_text(json.dumps(state["param_groups"], allow_nan=False))
    entries: dict[int, dict[str, torch.Tensor]] = {}
    for name, value in load_file(folder / "state.safetensors").items():
        index, key = name.split(".")
        entries.setdefault(int(index), {})[key] = value
    groups = json.loads((folder / "groups.json").read_text())
    restored[0].load_state_dict(network.state_dict())
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


def through_pickle(trained: Trained, restored: Trained, folder: Path) -> Trained:
    return pickle.loads(pickle.dumps(trained))  # noqa: S301 - that it can be, is what is tested


@pytest.mark.parametrize(
    "way",
    [
        through_torch_save,
        through_safetensors_and_json,
        through_accelerate,
        through_deepcopy,
        through_pickle,
    ],
)
def test_restored_optimizer_goes_on_as_the_original(
    configuration: Configuration, way: Callable[[Trained, Trained, Path], Trained], tmp_path: Path
) -> None:
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


def test_loading_leaves_its_argument_alone_and_shares_no_memory_with_it(configuration: Configuration) -> None:
    _, original = train(configuration)
    state = copy.deepcopy(original.state_dict())
    before = copy.deepcopy(state)
    network, restored = unlike(configuration)
    restored.load_state_dict(state)
    for tensor, loaded in zip(state_tensors(state), tensors_of(restored), strict=True):
        assert tensor.untyped_storage().data_ptr() != loaded.untyped_storage().data_ptr()
    take_steps(network, restored, range(3))
    assert state["param_groups"] == before["param_groups"]
    assert_equal_states(state["state"], before["state"])


def state_tensors(state: dict[str, Any]) -> list[torch.Tensor]:
    return [value for entries in state["state"].values() for value in entries.values()]


def test_loading_keeps_the_precision_of_half_precision_weights_where_pytorchs_own_loses_it() -> None:
    configuration = CONFIGURATIONS["bf16"]
    _, original = train(configuration)
    state = original.state_dict()
    expected = {key: value.dtype for key, value in state["state"][0].items()}
    assert expected == {
        "step": torch.float32,
        "exp_avg": torch.float32,
        "exp_avg_sq": torch.float32,
        "refresh_count": torch.int64,
        "basis": torch.float32,
    }
    _, restored = unlike(configuration)
    restored.load_state_dict(state)
    assert_equal_states(restored.state_dict()["state"], state["state"])
    _, lossy = unlike(configuration)
    torch.optim.Optimizer.load_state_dict(lossy, state)
    with pytest.raises(AssertionError):
        assert_equal_states(lossy.state_dict()["state"], state["state"])


@pytest.mark.parametrize("saved", [torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("now", [torch.bfloat16, torch.float32, torch.float64])
def test_state_of_weights_of_another_precision_goes_on(saved: torch.dtype, now: torch.dtype) -> None:
    _, original = train(Configuration(dtype=saved))
    network, restored = unlike(Configuration(dtype=now))
    restored.load_state_dict(original.state_dict())
    moments = torch.float64 if now == torch.float64 else torch.float32
    for ours, theirs in zip(tensors_of(restored), tensors_of(original), strict=True):
        assert ours.dtype in (moments, torch.float32, torch.int64)
        torch.testing.assert_close(ours.double(), theirs.double(), rtol=1e-6, atol=0)
    assert restored.state[network.first.weight]["exp_avg"].dtype == moments
    take_steps(network, restored, range(10, 20))
    assert int(restored.state[network.first.weight]["step"]) == 20


def test_what_a_loading_hook_has_changed_is_what_is_loaded() -> None:
    _, original = train(CONFIGURATIONS["srft"])
    network, restored = unlike(CONFIGURATIONS["srft"])

    def doubled(_: torch.optim.Optimizer, state: dict[str, Any]) -> dict[str, Any]:
        state = copy.deepcopy(state)
        state["state"][0]["exp_avg"] *= 2
        return state

    restored.register_load_state_dict_pre_hook(doubled)
    restored.load_state_dict(original.state_dict())
    expected = 2 * original.state_dict()["state"][0]["exp_avg"]
    assert torch.equal(restored.state[network.first.weight]["exp_avg"], expected)


def refusal_of(state: dict[str, Any], configuration: Configuration, rows: int = 24) -> str:
    """The message with which an optimizer in use refuses a state; it must go on as if nothing had been."""
    network = Network(rows=rows)
    optimizer = build_optimizer(network, **configuration.settings)
    take_steps(network, optimizer, range(2))
    undisturbed = copy.deepcopy((network, optimizer))
    with pytest.raises(ValueError, match=r".") as error:
        optimizer.load_state_dict(state)
    for run in ((network, optimizer), undisturbed):
        take_steps(*run, range(2, 12))
    assert_equal_runs((network, optimizer), undisturbed)
    assert "\n" not in str(error.value)
    return str(error.value)


def saved_state() -> dict[str, Any]:
    """Of an optimizer that refreshes at other steps than the one that is to take it over."""
    return copy.deepcopy(train(Configuration({"update_proj_gap": 2}))[1].state_dict())


def test_state_of_other_shapes_is_refused_by_the_parameters_name() -> None:
    message = refusal_of(saved_state(), CONFIGURATIONS["srft"], rows=25)
    # 24 x 10 projected on its rows leaves 4 x 10 moments; what has 24 or 25 entries is basis and bias.
    assert message == "the state of first.weight does not fit: basis is (24, 4), expected (25, 4)"
    state = saved_state()
    moment = state["state"][4]["exp_avg"]
    state["state"][4]["exp_avg"] = moment[:-1]
    message = refusal_of(state, CONFIGURATIONS["srft"])
    assert message == "the state of first.bias does not fit: exp_avg is (23,), expected (24,)"


@pytest.mark.parametrize("key", ["step", "exp_avg", "exp_avg_sq", "refresh_count", "basis"])
def test_incomplete_state_is_refused_by_the_parameters_name(key: str) -> None:
    state = saved_state()
    del state["state"][2][key]
    message = refusal_of(state, CONFIGURATIONS["srft"])
    assert message.startswith(f"the state of wide.weight does not fit: {key} is missing")


def test_state_of_other_groups_is_refused() -> None:
    state = saved_state()
    state["param_groups"].pop()
    assert "has 2 parameter group(s), this optimizer 3" in refusal_of(state, CONFIGURATIONS["srft"])
    state = saved_state()
    for entries in (state["param_groups"][0]["params"], state["param_groups"][0]["param_names"]):
        del entries[1]
    message = refusal_of(state, CONFIGURATIONS["srft"])
    assert "group 0 of the loaded state has 2 parameter(s), this optimizer's 3" in message
    assert "only one has second.weight" in message


def test_state_of_another_optimizer_is_refused() -> None:
    network = Network()
    ours = build_optimizer(network)
    groups = [{"params": group["params"]} for group in ours.param_groups]
    adamw = torch.optim.AdamW(groups)
    take_steps(network, adamw, range(2))
    message = refusal_of(adamw.state_dict(), CONFIGURATIONS["srft"])
    assert "group 0 of the loaded state has no rank" in message


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("lr", None, "lr must be a number, got None"),
        ("lr", "1e-3", "lr must be a number, got '1e-3'"),
        ("betas", 0.9, "betas must be two numbers"),
        ("betas", [0.9, "0.99"], "betas must be a number, got '0.99'"),
        ("rank", 2.5, "rank must be an integer"),
        ("seed", -1, "seed must be an integer"),
        ("scale", "1", "scale must be a number"),
        ("proj_type", "fft", "proj_type: 'fft' is unknown"),
        ("matrix_axes", 1, "matrix_axes must be (row axes, column axes)"),
        ("matrix_axes", [0, [1, 2, 3]], "matrix_axes must be (row axes, column axes)"),
        ("matrix_axes", None, "convolution.weight has 4 dimensions"),
    ],
)
def test_settings_that_cannot_be_are_refused_in_a_loaded_state(key: str, value: Any, message: str) -> None:
    state = saved_state()
    state["param_groups"][1][key] = value
    assert message in refusal_of(state, CONFIGURATIONS["srft"])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_checkpoint_of_a_cpu_goes_on_on_a_gpu_and_comes_back(
    configuration: Configuration, tmp_path: Path
) -> None:
    network, optimizer = train(configuration)
    torch.save(optimizer.state_dict(), tmp_path / "cpu.pt")
    weights = {name: tensor.clone() for name, tensor in network.state_dict().items()}

    on_gpu = Network(seed=1, dtype=configuration.dtype).cuda()
    on_gpu.load_state_dict(weights)
    optimizer_on_gpu = build_optimizer(on_gpu)
    optimizer_on_gpu.load_state_dict(torch.load(tmp_path / "cpu.pt", weights_only=True))
    for entries in optimizer_on_gpu.state_dict()["state"].values():
        for key, value in entries.items():
            assert value.device.type == ("cpu" if key in ("step", "refresh_count") else "cuda"), key
    torch.save(optimizer_on_gpu.state_dict(), tmp_path / "gpu.pt")

    back = unlike(configuration)
    back[0].load_state_dict(weights)
    back[1].load_state_dict(torch.load(tmp_path / "gpu.pt", weights_only=True, map_location="cpu"))
    assert_equal_runs((network, optimizer), back)

    for run in ((network, optimizer), back, (on_gpu, optimizer_on_gpu)):
        # No refresh: the signs of a factorization's columns are each library's own.
        for group in run[1].param_groups:
            group["update_proj_gap"] = 1000
        take_steps(*run, range(10, 20))
    assert_equal_runs((network, optimizer), back)
    tolerance = 0.05 if configuration.dtype == torch.bfloat16 else 1e-3
    for ours, theirs in zip(network.parameters(), on_gpu.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs.cpu(), atol=tolerance, rtol=tolerance)


def test_a_state_whose_parameters_have_changed_places_is_refused() -> None:
    one, other = weights((8, 6), (8, 6))
    saved = SRFTGaLoreAdamW([("one", one), ("other", other)], rank=2)
    run_steps([one, other], saved, 3)
    optimizer = SRFTGaLoreAdamW(
        [("other", nn.Parameter(other.data)), ("one", nn.Parameter(one.data))], rank=2
    )
    with pytest.raises(ValueError, match="in another order, from other on"):
        optimizer.load_state_dict(saved.state_dict())
    assert not optimizer.state


def test_a_state_with_something_else_than_tensors_is_refused_and_changes_nothing() -> None:
    [parameter] = weights((8, 6))
    optimizer = SRFTGaLoreAdamW([parameter], rank=2)
    run_steps([parameter], optimizer, 3)
    saved = optimizer.state_dict()
    saved["state"][0] = saved["state"][0] | {"step": 3}
    before = {key: value.clone() for key, value in optimizer.state[parameter].items()}
    run_steps([parameter], optimizer, 1, first=3)
    moved = {key: value.clone() for key, value in optimizer.state[parameter].items()}
    with pytest.raises(ValueError, match="step is no tensor"):
        optimizer.load_state_dict(saved)
    assert not torch.equal(moved["exp_avg"], before["exp_avg"])
    assert all(torch.equal(optimizer.state[parameter][key], value) for key, value in moved.items())


def test_hooks_after_loading_see_the_state_that_stays() -> None:
    [parameter] = weights((8, 6), dtype=torch.bfloat16)
    optimizer = SRFTGaLoreAdamW([parameter], rank=2)
    run_steps([parameter], optimizer, 3)
    seen = {}

    def look(loaded: torch.optim.Optimizer) -> None:
        seen.update({key: value.dtype for key, value in loaded.state[parameter].items()})
        loaded.state[parameter]["exp_avg"].zero_()

    optimizer.register_load_state_dict_post_hook(look)
    optimizer.load_state_dict(optimizer.state_dict())
    assert seen["exp_avg"] == seen["basis"] == torch.float32
    assert seen["refresh_count"] == torch.int64
    assert not optimizer.state[parameter]["exp_avg"].any()
