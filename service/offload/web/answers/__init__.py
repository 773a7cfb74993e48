"""What is sent back: problems, outcomes of jobs, headers, timing."""
