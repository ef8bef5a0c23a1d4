"""Kind `attach`: an existing guest and share, on machines that the suite does not own."""
