"""What a task file says: the decorators, and what they find in the function below them."""
