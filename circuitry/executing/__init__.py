"""How a plan is executed: executors, reading and writing at a place, the values that interventions put there, and guards."""
