"""Tasks to try the service with: `offload serve offload.examples.tasks`."""
