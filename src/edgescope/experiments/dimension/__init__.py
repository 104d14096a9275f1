"""What the study `dimension` runs, and the table of its grid with the correlations of each measure."""
