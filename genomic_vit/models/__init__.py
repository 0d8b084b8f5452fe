"""The network: ViT, rollout, CNN, and all in one. Knows tensors only."""
