"""Training of the synthesizers that learn: losses, discriminators, trainers.

The recipes call it (`recipes/unet_cgan/train.py`); it needs torch and torchvision alone.
"""
