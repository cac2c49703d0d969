"""Objects in stores such as S3: their names, versions and contents, and what is said when a store fails."""
