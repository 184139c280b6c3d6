"""How nano is trained: all of it at once, through its decoder."""
