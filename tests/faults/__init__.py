"""Faults injected for real: separate processes, real servers, and a proxy between them."""
