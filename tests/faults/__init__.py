"""Storage that fails on purpose, and the order of what a program does to it."""
