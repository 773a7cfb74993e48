"""What a worker restores between two jobs."""
