"""Are the images there in time? Decoded, resized and batched under each way of doing it at once."""
