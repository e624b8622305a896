"""Training: a recipe, what it trains, the step, the loop, and checkpoints to go on from."""
