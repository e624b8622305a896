"""The stages of a prediction: order, batches, failures, and an early end."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest

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


def test_an_error_that_is_no_frames_own_ends_the_whole():
    predictor = CountingPredictor()
    predictor.forward = lambda frames: (_ for _ in ()).throw(RuntimeError("device lost"))
    before = threading.active_count()
    with pytest.raises(RuntimeError, match="device lost"):
        list(predict_jobs(predictor, map(job, range(9)), lambda seen: seen))
    assert threading.active_count() == before


def test_a_jobs_smoother_sees_its_frames_in_order():
    import torch

    predictor, times = CountingPredictor(), []
    predictor.forward = lambda frames: [ModelOutput(torch.zeros(4, 2, 2), None, 1.0) for _ in frames]
    predictor.finish = lambda frame, output: FramePrediction(
        np.zeros((4, 4), np.uint8), {}, {}, (), False, output.logits.numpy(), milliseconds={}
    )
    smoother = SimpleNamespace(
        update=lambda logits, time_s: times.append(time_s) or logits + time_s,
        state=lambda: {"last": np.array(times[-1])},
    )
    jobs = [
        FrameJob(
            n, "v", lambda: np.zeros((4, 4, 3), np.uint8), time_s=n / 10, smoother=smoother, keep_state=n == 6
        )
        for n in range(9)
    ]
    seen = list(predict_jobs(predictor, jobs, lambda seen: seen, batch_size=4))
    assert times == [n / 10 for n in range(9)]
    assert [item.smoother_state for item in seen].count(None) == 8
    assert seen[6].smoother_state["last"] == 0.6
    assert [float(item.prediction.logits[0, 0, 0]) for item in seen] == pytest.approx(times)
