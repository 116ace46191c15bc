"""Programs of torch.export, read from their archives without PyTorch's loader, which evaluates parts of them."""
