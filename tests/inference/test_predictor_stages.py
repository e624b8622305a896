"""The stages of a prediction: order, batches, failures, and an early end."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from liver_landmark.inference.predictor import (
    FailedFrame,
    FrameJob,
    FramePrediction,
    ModelOutput,
    PreparedFrame,
    predict_jobs,
)
from liver_landmark.utils.frame_files import FrameError


class CountingPredictor:
    """Gives each frame its own mean; notes batches and which thread does what."""

    def __init__(self) -> None:
        self.batches: list[list[float]] = []
        self.threads: dict[str, set[int]] = {"prepare": set(), "forward": set(), "finish": set()}

    def prepare(self, frame):
        self.threads["prepare"].add(threading.get_ident())
        if frame.max() == 255:
            raise ValueError("too bright")
        return PreparedFrame(frame.shape[:2], (float(frame.mean()),), 1.0)

    def forward(self, frames):
        self.threads["forward"].add(threading.get_ident())
        self.batches.append([frame.pixel_values[0] for frame in frames])
        return [ModelOutput(frame.pixel_values[0], None, 1.0) for frame in frames]

    def finish(self, frame, output):
        self.threads["finish"].add(threading.get_ident())
        if output.logits == 13:
            raise ValueError("not finite")
        mask = np.full(frame.size, output.logits, np.uint8)
        return FramePrediction(mask, {}, {}, (), False, np.zeros((4, 1, 1), np.float32), milliseconds={})


def job(value: int, load=None) -> FrameJob:
    return FrameJob(value, f"frame{value}", load or (lambda: np.full((4, 4, 3), value, np.uint8)), pixels=16)


def missing():
    raise FrameError("frame7: no such file")


@pytest.mark.parametrize("batch_size", [1, 3, 8, 50])
def test_results_and_what_is_no_job_come_in_order(batch_size):
    predictor = CountingPredictor()
    items = [job(7, missing) if value == 7 else job(value) for value in range(20)]
    items[16] = job(255)
    items[5:5], items[12:12] = ["five"], ["six"]
    results = list(
        predict_jobs(
            predictor, iter(items), lambda seen: int(seen.prediction.mask[0, 0]), batch_size=batch_size
        )
    )
    expected: list = list(range(20))
    expected[5:5], expected[12:12] = ["five"], ["six"]
    assert len(results) == len(items)
    for result, item in zip(results, items, strict=True):
        if isinstance(result, FailedFrame):
            assert result.job is item
            reason = {
                7: "frame7: no such file",
                13: "frame13: not finite",
                255: "frame255: the frame is refused: too bright",
            }
            assert result.named_reason == reason[item.key]
        else:
            assert result == (item.key if isinstance(item, FrameJob) else item)
    predicted = [value for batch in predictor.batches for value in batch]
    assert predicted == [value for value in range(20) if value not in (7, 16)]
    assert max(map(len, predictor.batches)) <= batch_size
    # All but the last are full: failures and other items cost no batch.
    assert all(len(batch) == batch_size for batch in predictor.batches[:-1])


def test_stages_run_in_threads_of_their_own():
    predictor = CountingPredictor()
    list(predict_jobs(predictor, map(job, range(30)), lambda seen: seen, batch_size=2))
    assert len(predictor.threads["forward"]) == 1
    assert threading.get_ident() not in set().union(*predictor.threads.values())
    assert not predictor.threads["forward"] & predictor.threads["finish"]


def test_an_endless_video_is_not_read_far_ahead_and_ends_when_nobody_takes_it():
    predictor, given = CountingPredictor(), []

    def endless():
        for number in range(10**9):
            given.append(number)
            yield job(number % 12)

    before = threading.active_count()
    results = predict_jobs(predictor, endless(), lambda seen: seen, batch_size=2, workers=2)
    for _ in range(10):
        next(results)
    time.sleep(0.3)
    assert len(given) < 10 + 25
    results.close()
    assert threading.active_count() == before


def test_large_frames_are_bounded_by_their_pixels():
    predictor, given = CountingPredictor(), []

    def large():
        for number in range(60):
            given.append(number)
            frame = np.broadcast_to(np.uint8(number % 12), (4096, 4096, 3))
            yield FrameJob(number, "large", lambda frame=frame: frame, pixels=2**24)

    predictor.prepare = lambda frame: PreparedFrame((4, 4), (float(frame[0, 0, 0]),), 1.0)
    results = predict_jobs(predictor, large(), lambda seen: seen, workers=4)
    next(results)
    time.sleep(0.3)
    # Two of 2^24 px at a time in each of the two worker stages, and one or two in the queues between.
    assert len(given) <= 10
    results.close()


@pytest.mark.parametrize("error", [torch.AcceleratorError("device lost"), TypeError("a bug")], ids=repr)
def test_an_error_that_is_no_frames_own_ends_the_whole(error):
    predictor = CountingPredictor()
    predictor.forward = lambda frames: (_ for _ in ()).throw(error)
    before = threading.active_count()
    with pytest.raises(type(error), match=str(error)):
        list(predict_jobs(predictor, map(job, range(9)), lambda seen: seen))
    assert threading.active_count() == before


@pytest.mark.parametrize("error", [RuntimeError("no such kernel"), torch.OutOfMemoryError("CUDA")], ids=repr)
def test_a_frame_that_the_model_fails_on_takes_no_other_of_its_batch_along(error):
    predictor = CountingPredictor()

    def forward(frames, forward=predictor.forward):
        if any(frame.pixel_values[0] == 6 for frame in frames):
            raise error
        return forward(frames)

    predictor.forward = forward
    results = list(
        predict_jobs(
            predictor, map(job, range(12)), lambda seen: int(seen.prediction.mask[0, 0]), batch_size=4
        )
    )
    [failed] = [result for result in results if isinstance(result, FailedFrame)]
    assert results == [*range(6), failed, *range(7, 12)]
    reason = {
        "RuntimeError": "frame6: the model fails on it: no such kernel",
        "OutOfMemoryError": "frame6: the device's memory is too small for this frame: predict it with "
        "--device cpu",
    }
    assert failed.named_reason == reason[type(error).__name__]
    assert predictor.batches == [[0, 1, 2, 3], [4, 5], [7], [8, 9, 10, 11]]


def test_a_batch_that_is_too_large_for_the_memory_is_halved():
    predictor = CountingPredictor()

    def forward(frames, forward=predictor.forward):
        if len(frames) > 2:
            raise torch.OutOfMemoryError("CUDA")
        return forward(frames)

    predictor.forward = forward
    seen = list(predict_jobs(predictor, map(job, range(10)), lambda seen: seen.job.key, batch_size=5))
    assert seen == list(range(10))
    assert max(map(len, predictor.batches)) == 2


def test_a_jobs_smoother_sees_its_frames_in_order_without_those_that_fail():
    predictor, times = CountingPredictor(), []

    def forward(frames):
        if any(frame.pixel_values[0] == 5 for frame in frames):
            raise RuntimeError
        return [ModelOutput(torch.full((4, 2, 2), frame.pixel_values[0]), None, 1.0) for frame in frames]

    def finish(frame, output):
        if not output.logits.isfinite().all():
            raise ValueError("not finite")
        mask, logits = np.zeros((4, 4), np.uint8), output.logits.numpy()
        return FramePrediction(mask, {}, {}, (), False, logits, milliseconds={})

    predictor.forward, predictor.finish = forward, finish
    smoother = SimpleNamespace(
        update=lambda logits, time_s: times.append(time_s) or np.full_like(logits, time_s),
        state=lambda: {"last": np.array(times[-1])},
    )
    values = [0, 1, 255, 3, float("nan"), 5, 6, 7, 8]
    jobs = [
        FrameJob(
            index,
            "v",
            lambda value=value: np.full((4, 4, 3), value, np.float32),
            time_s=index / 10,
            smoother=smoother,
            # After a frame that the processor, the model or what follows it fails on, and one that is right.
            keep_state=index in (2, 4, 5, 7),
        )
        for index, value in enumerate(values)
    ]
    seen = list(predict_jobs(predictor, jobs, lambda seen: seen, batch_size=4))
    assert times == [0.0, 0.1, 0.3, 0.6, 0.7, 0.8]
    assert [isinstance(item, FailedFrame) for item in seen] == [index in (2, 4, 5) for index in range(9)]
    states = {item.job.key: item.smoother_state for item in seen if item.smoother_state is not None}
    assert {index: float(state["last"]) for index, state in states.items()} == {
        2: 0.1,
        4: 0.3,
        5: 0.3,
        7: 0.7,
    }
    shown = [float(item.prediction.logits[0, 0, 0]) for item in seen if not isinstance(item, FailedFrame)]
    assert shown == pytest.approx(times)
