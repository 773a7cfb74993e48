"""The bounded queue of waiting jobs, fair between clients and between tasks."""
