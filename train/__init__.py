"""Notes in, checkpoint out: data, labels, training and the judge."""
