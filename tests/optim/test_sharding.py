"""With weights sharded by rows two processes do what one does, and communicate at refreshes only."""

from __future__ import annotations

import pytest
import torch

from liver_landmark.optim import SRFTGaLoreAdamW
from liver_landmark.optim.projection import plan_projections
from liver_landmark.optim.update_rules import Update, batches
from optim.small_network import equal, frames, loss_of, network, optimizer_of, states_of, train, weights_of
from optim.two_processes import found, tensors

STEPS = range(16)
# Of 7, 13, 30 and 1 rows, as torch.chunk gives them to two processes.
ROWS = {"0.weight": (4, 3), "3.weight": (7, 6), "6.weight": (15, 15), "8.weight": (1, 0)}
MOMENTS = {"0.weight": (7, 3), "3.weight": (13, 4), "6.weight": (30, 5), "8.weight": (1, 1)}
SKETCHED = ("0.weight", "3.weight", "8.weight")


def assert_close(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name, expected in theirs.items():
        torch.testing.assert_close(
            ours[name], expected, rtol=1e-6, atol=1e-7, msg=lambda text, name=name: f"{name}: {text}"
        )


def test_two_processes_equal_one() -> None:
    model = network()
    optimizer = optimizer_of(model, side="right")
    train(model, optimizer, STEPS)
    found("sharded")
    expected = states_of(optimizer)
    assert all(expected[f"{name}/refresh_count"] >= 4 for name in ROWS)
    for rank in range(2):
        assert_close(tensors("sharded", "weights")[rank], weights_of(model))
        assert_close(tensors("sharded", "states")[rank], expected)


def test_bases_are_equal_on_both_ranks_bit_for_bit() -> None:
    found("sharded")
    first, second = tensors("sharded", "bases")
    assert set(first) == set(SKETCHED)
    assert equal(first, second)


@pytest.mark.parametrize("name", ROWS)
def test_moments_are_sharded_as_the_weight(name: str) -> None:
    for rank, fact in enumerate(found("sharded")):
        layout = fact["layout"][name]
        assert layout["placements"] == "(Shard(dim=0),)"
        assert layout["rows"] == ROWS[name][rank]
        for moment in layout["moments"]:
            rows, rank_columns = MOMENTS[name]
            assert moment == ["(Shard(dim=0),)", layout["rows"], rank_columns, rows, rank_columns]
        assert layout["basis"] == ("(Replicate(),)" if name in SKETCHED else None)


def test_moments_of_plain_weights_are_sharded_too() -> None:
    for rank, fact in enumerate(found("sharded")):
        assert fact["layout"]["3.bias"]["moments"] == [["(Shard(dim=0),)", (7, 6)[rank], 13]] * 2
        assert fact["layout"]["8.bias"]["moments"] == [["(Shard(dim=0),)", (1, 0)[rank], 1]] * 2


def test_processes_batch_alike_whatever_rows_they_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else one would find two bases in one batched decomposition, the other in two: not bit for bit alike."""
    # Room for one matrix of 13 × 12, for one part of 7 rows, for two of 6.
    monkeypatch.setattr("liver_landmark.optim.update_rules._BATCH_ENTRIES", 160)
    weights = [torch.nn.Parameter(torch.zeros(13, 12)) for _ in range(3)]
    optimizer = SRFTGaLoreAdamW(weights, rank=2, foreach=True)
    projections = plan_projections(optimizer.param_groups)

    def sizes(rows: int) -> list[int]:
        group = optimizer.param_groups[0]
        updates = [Update(each, each[:rows], "", group, {}, projections[each]) for each in weights]
        return [len(batch) for batch in batches(updates)]

    assert sizes(7) == sizes(6) == [1, 1, 1]
    monkeypatch.setattr("liver_landmark.optim.update_rules._BATCH_ENTRIES", 320)
    assert sizes(7) == sizes(6) == [2, 1]


def test_processes_communicate_at_refreshes_only() -> None:
    for fact in found("sharded"):
        # One gathered gradient for each basis found in one; oblivious bases need none.
        assert fact["collectives"] == fact["refreshes"]
        assert sum(fact["refreshes"]) >= 3 * len(SKETCHED)
        assert fact["refreshes"].count(0) >= 3


def test_global_generators_stay_as_they_are() -> None:
    assert all(fact["untouched"] == [True] * len(STEPS) for fact in found("sharded"))


def test_nan_on_one_rank_is_skipped_on_both_for_one_reduction_a_step() -> None:
    for fact in found("sharded_nonfinite"):
        assert sum(step["poisoned"] for step in fact["steps"]) == 2
        for step in fact["steps"]:
            assert step["skipped"] == step["unchanged"] == step["poisoned"]
            assert step["collectives"] == 1 + step["refreshes"]
    model = network()
    optimizer = optimizer_of(model, side="right")
    for step in STEPS:
        if step not in (4, 6):
            loss_of(model, frames(step)).backward()
            optimizer.step()
            optimizer.zero_grad()
    for weights in tensors("sharded_nonfinite", "weights"):
        assert_close(weights, weights_of(model))


def test_weights_sharded_by_rows_or_replicated_are_accepted() -> None:
    assert [fact["accepted"] for fact in found("sharded_refusals")] == [[""] * 5] * 2


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        ("left", "sharded by rows and side 'left'"),
        ("shorter_is_left", "sharded by rows and side 'shorter'"),
        ("columns", "placed as S(1)"),
        ("tensor_parallel", "placed as S(1)"),
        ("tensor_and_data_parallel", "placed as _S(0, 2)"),
        ("partial", "placed as P(sum)"),
        ("gradient", "is placed as (Partial(sum),), the weight as (Replicate(),)"),
        ("rows_not_first", "matrix_axes must take axis 0"),
        ("rows_of_a_batch", "matrix_axes must take axis 0"),
    ],
)
def test_other_placements_are_refused_by_name(case: str, reason: str) -> None:
    for fact in found("sharded_refusals"):
        assert fact[case].removeprefix("the gradient of ").startswith("blocks.0.weight ")
        assert reason in fact[case]
