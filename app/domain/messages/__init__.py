"""Messages from user to user: an inbox and a sent box, an event for each, and mail to those who are not online."""
