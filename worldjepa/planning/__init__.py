"""Planning in latent space: costs, solvers, dynamics, the agent."""
