"""The streams that are copied: which are kept, what a container can hold of each, and how their times move."""
