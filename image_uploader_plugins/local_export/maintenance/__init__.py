"""What is done to a tree now and then, as a whole."""
