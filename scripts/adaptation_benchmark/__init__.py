"""The parts of scripts/benchmark_adaptation.py, which says what it compares and how."""
