"""What needs CUDA, checked and measured on randomly initialised models: `make gpu`."""
