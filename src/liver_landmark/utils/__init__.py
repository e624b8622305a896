"""What every layer above may use: files that are whole or absent, threads, memory."""
