"""Shows a compiled cluster: findings, plan, diff and topology, as text, data or a picture."""
