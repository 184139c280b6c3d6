"""What belongs to the machine rather than the network: the demo, and what is installed."""
