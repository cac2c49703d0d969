"""GitHub Actions on this machine: the steps of actions and workflows run here, against a repository made for it.

No more than what our own files use is understood; anything else is refused, so that it cannot pass unnoticed.
"""
