"""Mean-field theory of deep networks: theory, experiments and reports behind the book.

The subpackages load only what they need: ``mflib.theory`` never imports torch.
"""

__version__ = "0.1.0"
