"""Projects and their keys: whom the server answers, and with whose objects. Nothing of HTTP."""
