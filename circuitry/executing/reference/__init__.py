"""The independent reference: plain PyTorch hooks, one cell and one run after the other, sharing nothing with planner or executors."""
