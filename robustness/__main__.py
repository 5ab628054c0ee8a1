"""`python -m robustness`: the command line where its script is not on the path."""

from robustness.cli import main

if __name__ == "__main__":
    main()
