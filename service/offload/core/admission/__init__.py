"""The decision to accept or reject a job, and what it is based on."""
