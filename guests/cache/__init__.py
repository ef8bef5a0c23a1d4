"""What is cached between runs: built once, checked before it is used, listed."""
