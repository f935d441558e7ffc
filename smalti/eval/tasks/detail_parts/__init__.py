"""The groups of charts that `smalti.eval.tasks.detail` goes through."""
