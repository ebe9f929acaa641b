"""The study itself: runs by name, and what each kind of run does. Notebooks and workflow call nothing else."""
