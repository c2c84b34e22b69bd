"""Tensor in, logits out: the shared 3D encoder, the segmentation decoder and the diagnosis head."""
