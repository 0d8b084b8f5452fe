"""The honest comparison as a machine: a study, its parts on disk, where their heat lies, and the files it ends in."""
