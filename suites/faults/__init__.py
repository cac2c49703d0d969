"""Slow loaders with one mistake each, and their fixed twins: does the doctor name it?"""
