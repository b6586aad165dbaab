"""What labs share: probing, scripted trainings, symptoms, comparison of states, accuracy under a budget."""
