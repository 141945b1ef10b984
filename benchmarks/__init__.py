"""Speed and memory, side by side with tripleo-common's own export, in one run."""
