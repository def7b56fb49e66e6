"""Traffic of our own between fake VMs and nodes, and what becomes of it while something happens to the lab."""
