"""What pods see below their mount points: made, kept up to date, taken away."""
