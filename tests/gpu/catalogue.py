"""All steps, the most important first."""
from gpu import gradients, victims
def all_steps(device): return [*victims.STEPS, *gradients.STEPS]
