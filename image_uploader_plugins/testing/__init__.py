"""What the author of a driver tests with: the contract, images, a registry, a driver in memory."""
