"""What travels: envelopes, packed, encrypted and signed."""
