"""The engines `pool` and `executor`: pools of the standard library, with the service's workers."""
