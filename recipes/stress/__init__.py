"""What breaks long runs: kills, damaged files, and time."""
