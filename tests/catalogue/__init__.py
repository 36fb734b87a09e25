"""A whole catalogue: ranks among all documents, the best of them, the hardest negatives."""
