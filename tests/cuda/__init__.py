"""CUDA: the op on a GPU, machine code, architectures, and what runs in the emulator."""
