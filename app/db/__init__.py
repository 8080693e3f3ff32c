"""The database: SQLAlchemy on PostgreSQL or SQLite, with read and write sessions that are different types."""
