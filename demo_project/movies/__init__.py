"""Searching for movies: the app that sends signals and receives them."""
