"""The parts of scripts/benchmark_optimizer.py, which says what it measures and how."""
