"""What a GPU should take, by a model and by the machine code of the compiled kernels."""
