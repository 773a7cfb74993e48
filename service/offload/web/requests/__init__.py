"""What arrives: heads, bodies, disconnects, and the wrapper around every handler."""
