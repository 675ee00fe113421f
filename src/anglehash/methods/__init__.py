"""What is learned: the losses of deep hashing, and the conventional methods."""
