"""Tables, pictures and documents of finished runs."""
