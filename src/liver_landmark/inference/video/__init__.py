"""Videos, read and written: every codec in, H.264 out, time stamps kept."""
