"""What a request asks for: its head, its body, and whether its caller is still there."""
