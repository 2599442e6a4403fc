"""Crews: several workers, here or elsewhere, that do the jobs of evaluations."""

from dynnas.search.crew.crew import ATTEMPTS, Answer, Crew, Hand, Job, JobError, answer

__all__ = ["ATTEMPTS", "Answer", "Crew", "Hand", "Job", "JobError", "answer"]
