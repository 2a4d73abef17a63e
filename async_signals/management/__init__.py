"""What Django looks for: the commands of this app."""
