"""The loss and its gradients: numbers, candidates, arguments, errors."""
