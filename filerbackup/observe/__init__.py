"""What a person sees: logs and progress."""
