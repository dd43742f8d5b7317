"""What a parameter group holds: options, their ranges, and the rate that they give."""
