"""The bounded queue of waiting jobs, fair between callers and tasks."""
