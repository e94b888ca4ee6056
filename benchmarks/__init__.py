"""What is measured beside the product: peers, scaling, ARM."""
