"""What is measured and how: figures with intervals, and the benches that produce them."""
