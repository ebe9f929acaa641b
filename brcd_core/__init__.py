"""Knowledge distillation for unsupervised semantic hashing: models, losses, evaluation and the study around them."""
