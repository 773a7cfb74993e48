"""What the import of the user's modules leaves in a process, and whether workers may be copies of it."""
