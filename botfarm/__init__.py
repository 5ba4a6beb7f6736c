"""botfarm keeps the accounts that end-to-end tests need and leases each one to one test run at a time."""

__version__ = "0.1.0"
