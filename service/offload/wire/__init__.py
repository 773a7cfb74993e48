"""What the service and its workers both use: frames, shared memory, passed descriptors, start records."""
