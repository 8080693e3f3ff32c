"""The cart: in the session of a visitor, in the database for an account."""
