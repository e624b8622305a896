"""The parts of scripts/benchmark_video.py, which says what it measures and how."""
