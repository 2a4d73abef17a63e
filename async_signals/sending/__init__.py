"""The sender's side of a delivery: which event it belongs to, whether it is sent, and when."""
