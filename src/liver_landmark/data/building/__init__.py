"""From raw or rendered frames to a finished set: planned, sharded, with card, report and contact sheet."""
