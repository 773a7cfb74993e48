"""What the service and its workers both speak: frames, shared memory, passed descriptors, start records."""
