"""Models of what the ledger promises, in which every order of steps is tried."""
