"""What a record says, as sentences and tables that know nothing of where they will stand: a page, or a comment."""
