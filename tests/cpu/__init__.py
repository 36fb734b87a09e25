"""The CPU core by itself: instruction sets, instructions counted, sanitizers."""
