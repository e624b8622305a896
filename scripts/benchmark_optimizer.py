"""Measures SRFT-GaLore's projectors and their peers over all matrices that a model's optimizer projects.

    python scripts/benchmark_optimizer.py --threads 2 --output FILE.json --markdown FILE.md --plot FILE.png

For every method: how long a refresh of all projections takes, how long a step between refreshes, what the
optimizer's state holds, and how much of a gradient's energy is captured relative to the SVD, on spectra
σᵢ = 1/i and i^-1/2 and on the model's own gradients. Runs are interleaved: each round takes every method
once over all matrices, figures are medians over rounds, ratios are taken within rounds. For a warm start
the former gradient is √(1 - d²) · G + d · G', G' having G's singular values and unrelated singular vectors.
Other optimizers (galore-torch, pytorch-optimizer, apollo-torch) are measured where they are installed.
"""

from __future__ import annotations

from optimizer_benchmark.command import main

if __name__ == "__main__":
    raise SystemExit(main())
