"""The Keras layers: losses, metrics, masks, replicas, saved models."""
