"""The mutation study of a lab: are all mistakes found, in the right cell, and does no correct solution lose points?"""
