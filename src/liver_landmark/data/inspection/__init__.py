"""Looking at sets: what is wrong with one, what is in it, how it looks."""
