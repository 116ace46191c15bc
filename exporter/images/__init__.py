"""The user's images: arrays, pictures and class folders, as a network takes them."""
