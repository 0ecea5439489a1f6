"""What the balancer shows of itself."""
