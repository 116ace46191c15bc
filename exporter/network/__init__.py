"""The PyTorch side: running, observing and capturing a network, and the images it is run on."""
