"""Data sets: from their source on the network to arrays in memory."""
