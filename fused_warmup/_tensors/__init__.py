"""What is known of one tensor: its memory, its layout, its split over ranks."""
