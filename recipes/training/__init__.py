"""Training of the synthesizers that learn: losses, discriminators, trainers.

The recipes call it (`recipes/train_unet_cgan.py`); it needs torch and torchvision alone.
"""
