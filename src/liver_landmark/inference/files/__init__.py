"""Files in, files out: what `liver-landmark predict` does, and how it goes on where it stopped."""
