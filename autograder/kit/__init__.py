"""What the hidden checks of labs share, and what is declared for their accuracy checks; students do not get it."""
