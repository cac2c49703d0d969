"""What batches are gathered from: tensors, columns, structures and their order."""
